# SPDX-License-Identifier: Apache-2.0
"""Owns HTTP on one kept-alive connection: a request out, one bounded answer in; h11 is the parser.

Runs in the supervisor. It must never follow a redirect, ask the environment for a proxy, accept compressed content, or
hold more of an answer than the request's limit.
"""

import errno
from collections import deque

import h11
import msgspec

from ipc.errors import HostUnreachable
from supervisor.loop import Loop, Promise, TimedOut
from supervisor.wire.requests import Request
from supervisor.wire.stream import Address, Stream, given_up

# One read: larger than any ordinary answer, small enough that the worst of it (chunks of one byte each) is parsed in
# a few hundredths of a second, after which the loop has its turn.
READ_BYTES = 16 * 1024


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
    """A complete answer; whether its status is a good one is for the caller to say."""

    status: int
    body: bytes


class Connection:
    """A connection to one address, opened when needed and kept while the host keeps it. One exchange at a time."""

    def __init__(self, loop: Loop, address: Address, limits: Limits) -> None:
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
            answer = await self._receive(stream, request, deadline)
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
        self._stream = stream = Stream(self._loop)
        try:
            await stream.connect(self._address, self._limits.connect_s)
        except TimedOut:
            raise HostUnreachable(f"{request.what}: no connection within {self._limits.connect_s:g} s") from None
        return stream

    async def _send(self, stream: Stream, request: Request) -> None:
        content = self._http.send(request.head)
        if request.body:
            content += self._http.send(h11.Data(data=request.body))
        content += self._http.send(h11.EndOfMessage())
        try:
            await stream.send(content, self._limits.silence_s)
        except TimedOut:
            raise HostUnreachable(f"{request.what}: not taken within {self._limits.silence_s:g} s") from None

    async def _receive(self, stream: Stream, request: Request, deadline: float) -> Answer:
        status = 0
        body = bytearray()
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await self._read(stream, request, deadline, in_head=not status))
            elif isinstance(event, h11.Response):
                status = _check_head(event, request)
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > request.max_body_bytes:
                    raise _too_long(request)
            elif isinstance(event, h11.EndOfMessage):
                return Answer(status, bytes(body))

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


def _check_head(response: h11.Response, request: Request) -> int:
    """The status, if the headers leave no doubt about the body's length and are no compressed content."""
    names = dict(response.headers)
    length = names.get(b"content-length")
    if length is not None:
        if b"transfer-encoding" in names:
            raise HostUnreachable(f"{request.what}: unusable answer, two different lengths")
        if int(length) > request.max_body_bytes:
            raise _too_long(request)
    if names.get(b"content-encoding", b"identity").lower() != b"identity":
        raise HostUnreachable(f"{request.what}: unusable answer, compressed though not asked for")
    return response.status_code


def _too_long(request: Request) -> HostUnreachable:
    return HostUnreachable(f"{request.what}: answer longer than {request.max_body_bytes} bytes")


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()
