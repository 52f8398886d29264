# SPDX-License-Identifier: Apache-2.0
"""Owns a handler's request on its way to the host: sent once, by a connection of its own, sealed as all others are.

Runs in the supervisor, while a grant is open. It must never send anything that was not judged to be within the grant.
"""

import h11
import msgspec

from ipc.errors import HostUnreachable
from ipc.messages import ForwardRequest
from ipc.messages.grants import MOST_BODY_BYTES
from supervisor.wire.connection import Answer, Connection, Limits
from supervisor.wire.requests import Request

# A snapshot of a large disk is begun, and answered, by a host that has other things to do.
LIMITS = Limits(silence_s=60.0, answer_s=90.0)
NO_ANSWER, NOT_IN_TIME = 502, 504
KNOWN_STATUSES = range(200, 600)
# What the kernel's and our own words for a passed limit have in common.
_LATE = " within "


class Outcome(msgspec.Struct, frozen=True):
    """What the handler is told; `problem` is why the host did not answer, empty when it did."""

    status: int
    content_type: str
    body: bytes
    problem: str = ""


class Forwarded:
    """The way to one host, for one grant."""

    def __init__(self, connection: Connection, address: str, port: int = 80) -> None:
        """`connection` is this object's own, to that port of `address`."""
        self._connection = connection
        self._host = address if port == 80 else f"{address}:{port}"

    async def send(self, request: ForwardRequest, body: bytes) -> Outcome:
        """The host's answer, whatever it is; or, in place of one, why there is none. Never sent a second time."""
        headers = [("Host", self._host), ("Accept-Encoding", "identity"), ("Content-Length", str(len(body)))]
        head = h11.Request(method=request.method, target=request.target, headers=[*headers, *request.headers])
        path = request.target.partition("?")[0]
        ready = Request(f"{request.method} {path}", head, body, MOST_BODY_BYTES, repeatable=False)
        try:
            answer = await self._connection.exchange(ready)
        except HostUnreachable as error:
            status = NOT_IN_TIME if _LATE in str(error) else NO_ANSWER
            text = "agent-supervisor: the host did not answer.\n"
            return Outcome(status, "text/plain", text.encode(), str(error))
        return _outcome(answer)

    def close(self) -> None:
        """Give up what is under way."""
        self._connection.close()


def _outcome(answer: Answer) -> Outcome:
    if answer.status not in KNOWN_STATUSES:
        return Outcome(NO_ANSWER, "", b"", f"the host's status {answer.status} is none")
    kind = answer.content_type
    return Outcome(answer.status, kind if kind.isascii() and kind.isprintable() else "", answer.body)
