# SPDX-License-Identifier: Apache-2.0
"""Owns the catalogue of requests to the WireServer: targets, header sets, names and versions (wire-protocol.md 3).

Runs in the supervisor. The only place where a header of ours is written down; it never touches a socket.
"""

import h11
import msgspec

from supervisor.compatibility import AGENT_NAME, AGENT_VERSION
from supervisor.wire.retry import OK
from supervisor.wire.signing import SCHEME, SigningKey

PROTOCOL_VERSION = "2012-11-30"

COMMON = (
    # Said aloud, because silence allows the host any encoding.
    ("Accept-Encoding", "identity"),
    ("User-Agent", f"{AGENT_NAME}/{AGENT_VERSION}"),
)
_SET_A = (("x-ms-agent-name", AGENT_NAME), ("x-ms-version", PROTOCOL_VERSION))
_SET_B = (*_SET_A, ("Content-Type", "text/xml;charset=utf-8"))
# What the host may encrypt a document with, as it is told in header set C; in the order in which we ask.
CIPHERS = ("AES128_CBC", "DES_EDE3_CBC")
_JSON = ("Content-Type", "application/json")

# Real ones take about 1 KiB and 4 KiB; a goal state grows with the number of role instances.
_VERSIONS_BYTES = 64 * 1024
_GOAL_STATE_BYTES = 256 * 1024
# An accepted report has no body; a refused one has a sentence.
_REPORT_BYTES = 64 * 1024
# A status has some hundred bytes, and rules for callers that grow with their number; a key has 300.
_CHANNEL_STATUS_BYTES = 256 * 1024
_CHANNEL_KEY_BYTES = 16 * 1024
_CHANNEL = "/secure-channel"
_KEY_WANTED = f'{{"authorizationScheme": "{SCHEME}"}}'.encode("ascii")
_METADATA = ("Metadata", "True")
_TAKEN, _EXACTLY_OK = frozenset({202}), frozenset({200})


class Request(msgspec.Struct, frozen=True):
    """One request, ready to be sent again and again.

    `what` names it in errors and must hold no secret. `repeatable`: a second copy does no harm, so that it may be sent
    anew without a word when a kept connection turns out to be dead. `accepted`: the statuses that mean yes.
    `of_channel`: it is about the secure channel itself, so that it is signed with its own `key` or not at all.
    `file`: the descriptor of a file whose first `file_bytes` are the body, sent piece by piece; such a request is never
    signed. It stays its owner's, and open until the request is over. `into`: the descriptor of a file that the answer's
    body goes to, in place of what is in it, and then is not in the answer; its owner's, too."""

    what: str
    head: h11.Request
    body: bytes
    max_body_bytes: int
    repeatable: bool
    accepted: frozenset[int] = OK
    of_channel: bool = False
    key: SigningKey | None = None
    file: int | None = None
    file_bytes: int = 0
    into: int | None = None


class Catalogue:
    """The requests to one host; `host` is the value of the Host header."""

    def __init__(self, host: str) -> None:
        self._host = host
        self.versions = self._get("/?comp=versions", (), _VERSIONS_BYTES)
        self.goal_state = self._get("/machine/?comp=goalstate", _SET_A, _GOAL_STATE_BYTES)
        self.channel_status = self._of_channel("GET", "/status", b"", _CHANNEL_STATUS_BYTES)
        self.channel_key = self._of_channel("POST", "/key", _KEY_WANTED, _CHANNEL_KEY_BYTES, _JSON)

    def document(self, target: str, what: str, most_bytes: int) -> Request:
        """Requests 3 to 5: a document of the goal state, `what` in errors, by the path that it names."""
        return Request(f"GET {what}", self._head("GET", target, _SET_A), b"", most_bytes, repeatable=True)

    def sealed_document(self, target: str, what: str, most_bytes: int, certificate: str, cipher: str) -> Request:
        """Requests 6 and 7: one that the host encrypts with `cipher` for `certificate`, base64 of its DER."""
        own = (("x-ms-guest-agent-public-x509-cert", certificate), ("x-ms-cipher-name", cipher))
        head = self._head("GET", target, (*_SET_A, *own))
        return Request(f"GET {what} ({cipher})", head, b"", most_bytes, repeatable=True)

    def telemetry(self, body: bytes) -> Request:
        """Request 10, by the path under which it is never signed. Not repeatable: the host would count events twice."""
        request = self._post("/machine/?comp=telemetrydata", body, OK)
        return msgspec.structs.replace(request, repeatable=False)

    def observations(self, body: bytes) -> Request:
        """Request 11. Repeatable: it tells a state."""
        head = self._head("POST", "/HealthService", (("Content-Length", str(len(body))), _JSON))
        return Request("POST /HealthService", head, body, _REPORT_BYTES, repeatable=True)

    def health(self, report: bytes) -> Request:
        """Request 8. Repeatable: it tells a state, and being told the same state twice changes nothing."""
        return self._post("/machine?comp=health", report, OK)

    def role_properties(self, report: bytes) -> Request:
        """Request 9. Repeatable as 8 is; only 202 means that the host has taken it."""
        return self._post("/machine?comp=roleProperties", report, _TAKEN)

    def attestation(self, key: SigningKey) -> Request:
        """What latches `key`: once the host has accepted it, it knows no other key for this VM."""
        request = self._of_channel("POST", f"/key/{key.guid}/key-attestation", b"", _REPORT_BYTES)
        return msgspec.structs.replace(request, key=key)

    def _of_channel(
        self, method: str, path: str, body: bytes, max_body_bytes: int, *headers: tuple[str, str]
    ) -> Request:
        """secure-channel.md, Endpoints. The host may be asked for any of them twice."""
        target = f"{_CHANNEL}{path}"
        length = ("Content-Length", str(len(body)))
        head = self._head(method, target, (length, _METADATA, *headers))
        return Request(
            f"{method} {target}",
            head,
            body,
            max_body_bytes,
            repeatable=True,
            accepted=_EXACTLY_OK,
            of_channel=True,
        )

    def _get(self, target: str, headers: tuple[tuple[str, str], ...], max_body_bytes: int) -> Request:
        return Request(f"GET {target}", self._head("GET", target, headers), b"", max_body_bytes, repeatable=True)

    def _post(self, target: str, body: bytes, accepted: frozenset[int]) -> Request:
        head = self._head("POST", target, (("Content-Length", str(len(body))), *_SET_B))
        return Request(f"POST {target}", head, body, _REPORT_BYTES, repeatable=True, accepted=accepted)

    def _head(self, method: str, target: str, headers: tuple[tuple[str, str], ...]) -> h11.Request:
        return h11.Request(method=method, target=target, headers=[("Host", self._host), *COMMON, *headers])
