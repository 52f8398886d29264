# SPDX-License-Identifier: Apache-2.0
"""Owns one connection of a handler's: one request in, one answer out, then it ends; h11 is the parser.

Runs in the forwarder. There is no second request on a connection, and none that takes longer than REQUEST_S to come.
"""

import select
import socket
from contextlib import suppress
from typing import Literal

import h11

from ipc.messages import ForwardRequest, WireGrant
from workers.forwarder.request import Refused, judge, too_long

HEAD_BYTES = 16 * 1024
READ_BYTES = 16 * 1024
# From the first moment of the connection to the last byte of the request, and for the handler to take its answer.
REQUEST_S, TAKING_S = 10.0, 10.0
# The supervisor's own patience with the host is 40 s, and other requests may come first.
ANSWER_S = 120.0
# For the rest of what the handler sends though it was answered: a reset would take the answer from it.
PARTING_S, PARTING_BYTES = 2.0, 1 << 20
NO_BODY = frozenset({204, 304})

State = Literal["reading", "waiting", "writing", "parting", "closed"]


class Client:
    """One connection. `request` and `body` are complete in state `waiting`; `refusal` is what it was refused for."""

    def __init__(self, connection: socket.socket, grant: WireGrant, address: str, now: float) -> None:
        self.state: State = "reading"
        self.deadline = now + REQUEST_S
        self.request: ForwardRequest | None = None
        self.body = bytearray()
        self.refusal: Refused | None = None
        self._grant = grant
        self._address = address
        self._connection = connection
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        self._head_bytes = 0
        self._out = b""
        self._parting_bytes = 0
        connection.setblocking(False)

    def fileno(self) -> int:
        """Its descriptor, for a poll."""
        return self._connection.fileno()

    @property
    def events(self) -> int:
        """What to wait for: poll's bits. While it waits for its answer, nothing but its end."""
        return {"reading": select.POLLIN, "writing": select.POLLOUT, "parting": select.POLLIN}.get(self.state, 0)

    def on_ready(self, now: float) -> None:
        """Something can be read or written, or the other side is gone."""
        try:
            match self.state:
                case "reading":
                    self._read(now)
                case "writing":
                    self._write(now)
                case "parting":
                    self._drain()
                case _:
                    self.close()
        except OSError:
            self.close()

    def on_deadline(self, now: float) -> None:
        """Its time is over."""
        if self.state == "reading":
            self._refuse(Refused(408, f"the request was not complete within {REQUEST_S:g} s"), now)
        else:
            self.close()

    def answer(self, status: int, content_type: str, body: bytes, now: float) -> None:
        """Send the answer; then the connection ends."""
        if self.state == "closed":
            return
        bare = status in NO_BODY or (self.request is not None and self.request.method == "HEAD")
        fields = [("Connection", "close"), ("Content-Length", "0" if bare else str(len(body)))]
        fields += [("Content-Type", content_type)] if content_type else []
        self._out = self._http.send(h11.Response(status_code=status, headers=fields)) or b""
        if not bare:
            self._out += self._http.send(h11.Data(data=body)) or b""
        self._out += self._http.send(h11.EndOfMessage()) or b""
        self.state, self.deadline = "writing", now + TAKING_S
        self.on_ready(now)

    def close(self) -> None:
        """End it; harmless when it has ended."""
        self.state = "closed"
        self._connection.close()

    def _read(self, now: float) -> None:
        try:
            piece = self._connection.recv(READ_BYTES if self.request else HEAD_BYTES + 1 - self._head_bytes)
        except BlockingIOError:
            return
        if not piece:
            self.close()
            return
        self._head_bytes += 0 if self.request else len(piece)
        try:
            self._take(piece)
        except h11.RemoteProtocolError as error:
            # Up to the colon: what follows in h11's texts is the sender's own bytes.
            problem = f"no request of HTTP/1.1: {str(error).partition(':')[0]}"
            self._refuse(Refused(error.error_status_hint, problem), now)
        except Refused as refusal:
            self._refuse(refusal, now)
        else:
            if self.state == "waiting":
                self.deadline = now + ANSWER_S

    def _take(self, piece: bytes) -> None:
        self._http.receive_data(piece)
        while True:
            event = self._http.next_event()
            if isinstance(event, h11.Request):
                self.request = judge(event, self._grant, self._address)
            elif isinstance(event, h11.Data):
                self.body += event.data
                if len(self.body) > self._grant.body_bytes:
                    raise too_long(self._grant)
            elif isinstance(event, h11.EndOfMessage):
                self._complete(event)
                return
            else:
                break
        if self.request is None and self._head_bytes > HEAD_BYTES:
            raise Refused(431, f"the head of the request is longer than {HEAD_BYTES} bytes")

    def _complete(self, end: h11.EndOfMessage) -> None:
        if end.headers:
            raise Refused(400, "headers behind the body are not supported here")
        if self._http.trailing_data[0]:
            raise Refused(400, "a connection is for one request, and there are bytes behind this one's end")
        self.state = "waiting"

    def _refuse(self, refusal: Refused, now: float) -> None:
        self.refusal = refusal
        self.answer(refusal.status, "text/plain", f"agent-supervisor: {refusal}.\n".encode(), now)

    def _write(self, now: float) -> None:
        try:
            self._out = self._out[self._connection.send(self._out) :]
        except BlockingIOError:
            return
        if not self._out:
            with suppress(OSError):
                self._connection.shutdown(socket.SHUT_WR)
            self.state, self.deadline = "parting", now + PARTING_S

    def _drain(self) -> None:
        try:
            piece = self._connection.recv(READ_BYTES)
        except BlockingIOError:
            return
        self._parting_bytes += len(piece)
        if not piece or self._parting_bytes > PARTING_BYTES:
            self.close()
