# SPDX-License-Identifier: Apache-2.0
"""Owns HTTP on one kept-alive connection: a request out, one bounded answer in; h11 is the parser.

Runs in the supervisor. It must never follow a redirect, ask the environment for a proxy, accept compressed content, or
hold more of an answer than the request's limit.
"""

import errno
import os
from collections import deque
from collections.abc import Callable, Mapping

import h11
import msgspec

from ipc.errors import HostUnreachable
from supervisor.loop import Loop, Promise, TimedOut
from supervisor.wire.canonical import Headers
from supervisor.wire.requests import Request
from supervisor.wire.spool import Spool
from supervisor.wire.stream import Address, SocketMaker, Stream, given_up, plain_socket

# One read: larger than any ordinary answer, small enough that the worst of it (chunks of one byte each) is parsed in
# a few hundredths of a second, after which the loop has its turn.
READ_BYTES = 16 * 1024
# Of a file that is sent, so much is in memory at once.
PIECE_BYTES = 64 * 1024
LONGEST_ETAG = 256


class Limits(msgspec.Struct, frozen=True):
    """What one exchange may cost."""

    # The host sits one virtual switch away; waagent waits 10 s, and hosts under repair have been seen to need seconds.
    connect_s: float = 10.0
    # Longest time without a single byte, as waagent's socket time-out.
    silence_s: float = 10.0
    # Whole answer, from the request on: ends a slow drip, which the limit above never notices.
    answer_s: float = 30.0
    # Status line and headers together; the host sends less than 1 KiB.
    header_bytes: int = 16 * 1024


class Answer(msgspec.Struct, frozen=True):
    """A complete answer; whether its status is a good one is for the caller to say.

    `date` is what time it is at the host, as it has written it; empty if it has not. `etag` is the version that it
    gives the document, as text that may stand in a header; empty if it gives none, or none of a bearable sort."""

    status: int
    body: bytes
    date: str = ""
    content_type: str = ""
    etag: str = ""


def nothing(_: Request) -> Headers:
    """What is added to a request that goes out as it is."""
    return []


class Connection:
    """A connection to one address, opened when needed and kept while the host keeps it. One exchange at a time."""

    def __init__(
        self,
        loop: Loop,
        address: Address,
        limits: Limits,
        make_socket: SocketMaker = plain_socket,
        added: Callable[[Request], Headers] = nothing,
    ) -> None:
        """`added` gives the headers that a request gets at the moment of sending, beside its own."""
        self._make_socket = make_socket
        self._added = added
        self._loop = loop
        self._address = address
        self._limits = limits
        self._stream: Stream | None = None
        self._http = h11.Connection(h11.CLIENT)
        self._reusable = False
        self._received_bytes = 0
        self._busy = False
        self._closed = False
        self._queue: deque[Promise[None]] = deque()

    @property
    def is_open(self) -> bool:
        """Whether a kept connection could carry the next request."""
        return self._reusable and self._stream is not None and self._stream.open

    async def exchange(self, request: Request) -> Answer:
        """Send `request`, return the whole answer. Raises HostUnreachable, its text naming request and reason.

        When the host closed a kept connection without a byte of answer, a repeatable request goes out once more."""
        await self._take_turn()
        try:
            return await self._converse(request)
        except OSError as error:
            raise HostUnreachable(f"{request.what}: {_reason(error)}") from None
        finally:
            self._pass_turn()

    def close(self) -> None:
        """End for good: what is under way, what waits and what comes later fails with HostUnreachable."""
        self._closed = True
        self._drop()

    async def _take_turn(self) -> None:
        """Each turn ends within the limits, so the queue moves; after `close` it is gone through at once."""
        if self._busy:
            turn: Promise[None] = Promise()
            self._queue.append(turn)
            await turn
        self._busy = True

    def _pass_turn(self) -> None:
        """The turn goes straight to the first in the queue, so that nobody slips in between."""
        if self._queue:
            self._queue.popleft().fulfil(None)
        else:
            self._busy = False

    async def _converse(self, request: Request) -> Answer:
        kept = self.is_open
        try:
            return await self._converse_once(request)
        except ConnectionError:
            if not (kept and request.repeatable and self._received_bytes == 0):
                raise
        return await self._converse_once(request)

    async def _converse_once(self, request: Request) -> Answer:
        if self._closed:
            raise given_up()
        usable = False
        self._received_bytes = 0
        try:
            stream = self._stream if self.is_open else None
            if stream is None:
                stream = await self._connect(request)
            self._reusable = False
            deadline = self._loop.clock.monotonic() + self._limits.answer_s
            await self._send(stream, request)
            with Spool(request.into) as body:
                answer = await self._receive(stream, request, deadline, body)
            usable = self._end_cycle()
            return answer
        except h11.RemoteProtocolError as error:
            # Up to the colon: what follows in h11's texts is the peer's own bytes.
            raise HostUnreachable(f"{request.what}: unusable answer, {str(error).partition(':')[0]}") from None
        finally:
            if not usable:
                self._drop()

    async def _connect(self, request: Request) -> Stream:
        self._drop()
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=self._limits.header_bytes)
        unconnected = await self._make_socket()
        if self._closed:
            unconnected.close()
            raise given_up()
        self._stream = stream = Stream(self._loop, unconnected)
        try:
            await stream.connect(self._address, self._limits.connect_s)
        except TimedOut:
            raise HostUnreachable(f"{request.what}: no connection within {self._limits.connect_s:g} s") from None
        return stream

    async def _send(self, stream: Stream, request: Request) -> None:
        content = _with(self._http.send(request.head), self._added(request))
        if request.body:
            content += self._http.send(h11.Data(data=request.body))
        if request.file is not None:
            await self._send_file(stream, request, request.file, content)
            content = b""
        await self._hand_over(stream, request, content + self._http.send(h11.EndOfMessage()))

    async def _send_file(self, stream: Stream, request: Request, file: int, head: bytes) -> None:
        """The head and the file, never more of it in memory than a piece."""
        await self._hand_over(stream, request, head)
        sent = 0
        while sent < request.file_bytes:
            piece = os.pread(file, min(PIECE_BYTES, request.file_bytes - sent), sent)
            if not piece:
                raise HostUnreachable(f"{request.what}: not sent, the file is shorter than {request.file_bytes} bytes")
            sent += len(piece)
            await self._hand_over(stream, request, self._http.send(h11.Data(data=piece)))

    async def _hand_over(self, stream: Stream, request: Request, content: bytes) -> None:
        try:
            await stream.send(content, self._limits.silence_s)
        except TimedOut:
            raise HostUnreachable(f"{request.what}: not taken within {self._limits.silence_s:g} s") from None

    async def _receive(self, stream: Stream, request: Request, deadline: float, body: Spool) -> Answer:
        head = Answer(0, b"")
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._read(stream, request, deadline, in_head=not head.status))
            elif isinstance(event, h11.Response):
                head = _head(event, request)
            elif isinstance(event, h11.Data):
                body.add(event.data)
                if body.size > request.max_body_bytes:
                    raise _too_long(request)
            elif isinstance(event, h11.EndOfMessage):
                return msgspec.structs.replace(head, body=body.whole())

    async def _read(self, stream: Stream, request: Request, deadline: float, *, in_head: bool) -> bytes:
        """The next bytes, within what is left of bytes and time. Framing counts as content, interim answers as head."""
        limits = self._limits
        room = limits.header_bytes - self._received_bytes + (0 if in_head else request.max_body_bytes)
        if room <= 0 and in_head:
            raise HostUnreachable(f"{request.what}: headers longer than {limits.header_bytes} bytes")
        if room <= 0:
            raise _too_long(request)
        left_s = deadline - self._loop.clock.monotonic()
        try:
            content = await stream.receive(min(room, READ_BYTES), max(0.0, min(left_s, limits.silence_s)))
        except TimedOut:
            if left_s <= limits.silence_s:
                problem = f"answer not complete within {limits.answer_s:g} s"
            elif self._received_bytes:
                problem = f"silent for {limits.silence_s:g} s within the answer"
            else:
                problem = f"no answer within {limits.silence_s:g} s"
            raise HostUnreachable(f"{request.what}: {problem}") from None
        if not content and not self._received_bytes:
            raise ConnectionResetError(errno.ECONNRESET, "closed without an answer")
        self._received_bytes += len(content)
        return content

    def _end_cycle(self) -> bool:
        """After a complete answer: whether the connection is sound. One that the host will close waits for that."""
        http = self._http
        unasked, ended = http.trailing_data
        if unasked or ended:
            return False
        if http.our_state is h11.DONE and http.their_state is h11.DONE:
            http.start_next_cycle()
            self._reusable = True
        return True

    def _drop(self) -> None:
        self._reusable = False
        if self._stream is not None:
            if self._http.trailing_data[1]:
                self._stream.finish()
            self._stream.reset()
            self._stream = None


def _head(response: h11.Response, request: Request) -> Answer:
    """What the head says, if it leaves no doubt about the body's length and the body is no compressed content."""
    names = dict(response.headers)
    length = names.get(b"content-length")
    if length is not None:
        if b"transfer-encoding" in names:
            raise HostUnreachable(f"{request.what}: unusable answer, two different lengths")
        if int(length) > request.max_body_bytes:
            raise _too_long(request)
    if names.get(b"content-encoding", b"identity").lower() != b"identity":
        raise HostUnreachable(f"{request.what}: unusable answer, compressed though not asked for")
    date = _text(names, b"x-ms-azure-host-date") or _text(names, b"date")
    return Answer(response.status_code, b"", date, _text(names, b"content-type"), _etag(names))


def _with(head: bytes, added: Headers) -> bytes:
    """A written head with more headers at its end. They are ours: no name or value needs to be looked at."""
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in added)
    return head[:-2] + lines + b"\r\n" if added else head


def _etag(names: Mapping[bytes, bytes]) -> str:
    text = _text(names, b"etag")
    return text if len(text) <= LONGEST_ETAG and text.isascii() and text.isprintable() else ""


def _text(names: Mapping[bytes, bytes], name: bytes) -> str:
    """A header's value, empty where there is none."""
    return names.get(name, b"").decode("ascii", "replace")


def _too_long(request: Request) -> HostUnreachable:
    return HostUnreachable(f"{request.what}: answer longer than {request.max_body_bytes} bytes")


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
