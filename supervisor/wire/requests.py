# SPDX-License-Identifier: Apache-2.0
"""Owns the catalogue of requests to the WireServer: targets, header sets, names and versions (wire-protocol.md 3).

Runs in the supervisor. The only place where a header of ours is written down; it never touches a socket.
"""

import h11
import msgspec

from supervisor.wire.retry import OK

# The platform recognises an agent by name and version and switches features on by them: extension classes, status
# fields and update modes are not offered to a name or version that it doesn't know. They say what we are compatible
# with, not who we are.
AGENT_NAME = "WALinuxAgent"
AGENT_VERSION = "2.15.0.1"
PROTOCOL_VERSION = "2012-11-30"

_COMMON = (
    # Said aloud, because silence allows the host any encoding.
    ("Accept-Encoding", "identity"),
    ("User-Agent", f"{AGENT_NAME}/{AGENT_VERSION}"),
)
_SET_A = (("x-ms-agent-name", AGENT_NAME), ("x-ms-version", PROTOCOL_VERSION))
_SET_B = (*_SET_A, ("Content-Type", "text/xml;charset=utf-8"))

# Real ones take about 1 KiB and 4 KiB; a goal state grows with the number of role instances.
_VERSIONS_BYTES = 64 * 1024
_GOAL_STATE_BYTES = 256 * 1024
# An accepted report has no body; a refused one has a sentence.
_REPORT_BYTES = 64 * 1024
_TAKEN = frozenset({202})


class Request(msgspec.Struct, frozen=True):
    """One request, ready to be sent again and again.

    `what` names it in errors and must hold no secret. `repeatable`: a second copy does no harm, so that it may be sent
    anew without a word when a kept connection turns out to be dead. `accepted`: the statuses that mean yes."""

    what: str
    head: h11.Request
    body: bytes
    max_body_bytes: int
    repeatable: bool
    accepted: frozenset[int] = OK


class Catalogue:
    """The requests to one host; `host` is the value of the Host header."""

    def __init__(self, host: str) -> None:
        self._host = host
        self.versions = self._get("/?comp=versions", (), _VERSIONS_BYTES)
        self.goal_state = self._get("/machine/?comp=goalstate", _SET_A, _GOAL_STATE_BYTES)

    def health(self, report: bytes) -> Request:
        """Request 8. Repeatable: it tells a state, and being told the same state twice changes nothing."""
        return self._post("/machine?comp=health", report, OK)

    def role_properties(self, report: bytes) -> Request:
        """Request 9. Repeatable as 8 is; only 202 means that the host has taken it."""
        return self._post("/machine?comp=roleProperties", report, _TAKEN)

    def _get(self, target: str, headers: tuple[tuple[str, str], ...], max_body_bytes: int) -> Request:
        return Request(f"GET {target}", self._head("GET", target, headers), b"", max_body_bytes, repeatable=True)

    def _post(self, target: str, body: bytes, accepted: frozenset[int]) -> Request:
        head = self._head("POST", target, (("Content-Length", str(len(body))), *_SET_B))
        return Request(f"POST {target}", head, body, _REPORT_BYTES, repeatable=True, accepted=accepted)

    def _head(self, method: str, target: str, headers: tuple[tuple[str, str], ...]) -> h11.Request:
        return h11.Request(method=method, target=target, headers=[("Host", self._host), *_COMMON, *headers])
