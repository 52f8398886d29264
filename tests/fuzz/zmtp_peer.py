# SPDX-License-Identifier: Apache-2.0
"""ZMTP under fuzz: greetings, handshakes and frames, all changed a little, against the supervisor's end of a channel.

That end lives in a process of its own, a new PAIR for each connection, as the supervisor has one for each worker. It
must not die, not hang and not grow, and hear nothing but what the codec takes.
"""

import contextlib
import json
import os
import random
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from ipc import codec
from ipc.descriptors import packet_pair
from ipc.messages import Versions, WorkerReady
from tests.fuzz.byte_mutations import mutate

SEED = 20261125
HUNG_S = 5.0
# From the first hundred connections on.
MAY_GROW_KIB = 24 * 1024
SETTLED_AFTER = 100
HONEST_EVERY = 64
# A handshake's answers are longer than the greeting alone.
HANDSHAKE_BYTES = 64 + 8
ANSWERS_WITHIN_S = 0.02
QUIET_MS = 4

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(16) + b"\0" + bytes(31)
OLD_GREETINGS = (b"\x01\0", b"\xff" + bytes(7) + b"\x01\x7f\x01\0\0\0", b"\xff" + bytes(7) + b"\x01\x7f\0\0\0")
_PROPERTIES = b"\x05READY\x0bSocket-Type\0\0\0\x04PAIR\x08Identity\0\0\0\0"
READY = b"\x04" + bytes((len(_PROPERTIES),)) + _PROPERTIES
FRAMES = [codec.encode(WorkerReady(), 0), codec.encode(Versions("2012-11-30", ("2012-11-30",)), 1)]
TOKENS = (
    GREETING, READY, b"\x04\x05\x04PING\0\x0a", b"\x04\x06\x05ERROR\x05sorry", b"\x04\x0a\x09SUBSCRIBE",
    b"\x04\x05\x05HELLO", b"\x02" + b"\xff" * 8, b"\x02\x7f" + b"\xff" * 7, b"\x06" + b"\xff" * 8,
    b"\x02" + (160 * 1024 + 1).to_bytes(8, "big"), b"\x01\x01x", b"\x01\0", b"\0\0", b"\xf8", b"PLAIN\0", b"CURVE\0",
    b"Socket-Type\0\0\0\x06ROUTER", b"Identity\xff\xff\xff\xff",
)  # fmt: skip


# What is written before the other side's answer, and after it.
Conversation = tuple[list[bytes], list[bytes]]


class Broken(AssertionError):
    """The supervisor's end did what it must never do."""


def zmtp(name: str) -> Callable[[int], str]:
    """The attempt: connection N, and what came of it."""
    end = _End()

    def attempt(number: int) -> str:
        if number % HONEST_EVERY == 0 and (said := end.try_with(HONEST)) != "WorkerReady, Versions, quiet":
            raise Broken(f"honest work does not go on: {said}")
        draw = random.Random(f"{SEED} {name} {number}")
        return end.try_with(_conversation(draw))

    return attempt


def part(body: bytes, flags: int = 0) -> bytes:
    """One ZMTP frame."""
    if len(body) < 256:
        return bytes((flags, len(body))) + body
    return bytes((flags | 2,)) + len(body).to_bytes(8, "big") + body


HONEST: Conversation = ([GREETING + READY], [part(frame) for frame in FRAMES])


def _conversation(draw: random.Random) -> Conversation:
    """An honest one, in which something is changed; in one piece or in several."""
    which = draw.random()
    hands, frames = GREETING + READY, b"".join(map(part, FRAMES))
    if which < 0.2:
        hands = mutate(GREETING, TOKENS, draw) + READY
    elif which < 0.4:
        hands = GREETING + mutate(READY, TOKENS, draw)
    elif which < 0.5:
        hands = draw.choice(OLD_GREETINGS)
    elif which < 0.6:
        # Without waiting for an answer.
        hands, frames = mutate(hands + frames, TOKENS, draw), b""
    if which > 0.4:
        longer = part(codec.encode(WorkerReady(), 2)) + part(draw.randbytes(draw.choice((1, 300, 70_000))))
        frames = mutate(frames + draw.choice((b"", longer)), TOKENS, draw)
    return _cut_up(hands, draw), _cut_up(frames, draw)


def _cut_up(data: bytes, draw: random.Random) -> list[bytes]:
    places = sorted(draw.randrange(len(data) + 1) for _ in range(draw.choice((0, 0, 1, 4))))
    return [data[begin:end] for begin, end in zip([0, *places], [*places, len(data)], strict=True)]


class _End:
    """The other process, as it is seen from here."""

    def __init__(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="agent-supervisor-fuzz-")
        self._tries = 0
        self._settled_kib = 0
        self._control = self._start()

    def _start(self) -> socket.socket:
        ours, theirs = packet_pair()
        ours.settimeout(HUNG_S)
        self._pid = os.fork()
        if self._pid == 0:
            status = 1
            with contextlib.suppress(BrokenPipeError):
                ours.close()
                _Server(self._folder, theirs).serve()
                status = 0
            os._exit(status)
        theirs.close()
        return ours

    def try_with(self, conversation: Conversation) -> str:
        """Have it listen, connect, shake hands, talk; what it heard."""
        self._tries += 1
        self._control.send(b"listen")
        self._answer()
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(0.2)
        with peer, contextlib.suppress(OSError):
            peer.connect(f"{self._folder}/s")
            for piece in conversation[0]:
                peer.sendall(piece)
            _read_out(peer)
            for piece in conversation[1]:
                peer.sendall(piece)
            self._control.send(b"written")
            answer = self._answer()
            self._look_at_size(answer["kib"])
            return str(answer["heard"])
        self._control.send(b"written")
        return str(self._answer()["heard"])

    def _answer(self) -> dict[str, Any]:
        try:
            packet = self._control.recv(65536)
        except TimeoutError:
            raise SystemExit(f"the supervisor's end hung for {HUNG_S:g} s") from None
        if not packet:
            raise SystemExit(f"the supervisor's end died: {os.waitpid(self._pid, 0)[1]:#x}")
        answer: dict[str, Any] = json.loads(packet)
        return answer

    def _look_at_size(self, kib: int) -> None:
        if self._tries <= SETTLED_AFTER:
            self._settled_kib = max(self._settled_kib, kib)
        elif kib > self._settled_kib + MAY_GROW_KIB:
            raise SystemExit(f"the supervisor's end grew from {self._settled_kib} to {kib} KiB")


def _read_out(peer: socket.socket) -> None:
    """Until the other side has shaken hands, or hung up, or has nothing to say."""
    peer.settimeout(ANSWERS_WITHIN_S)
    answered = 0
    with contextlib.suppress(TimeoutError, ConnectionResetError):
        while answered < HANDSHAKE_BYTES and (piece := peer.recv(4096)):
            answered += len(piece)


class _Server:
    """The supervisor's end: the real channel over a socket that listens already."""

    def __init__(self, folder: str, control: socket.socket) -> None:
        from ipc import pair

        self._listen = pair.listen
        self._context = pair.context()
        self._path = f"{folder}/s"
        self._folder = folder
        self._control = control

    def serve(self) -> None:
        """Until nobody asks any more."""
        try:
            while self._control.recv(64):
                self._one()
        finally:
            with contextlib.suppress(FileNotFoundError):
                Path(self._path).unlink()
            Path(self._folder).rmdir()

    def _one(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            Path(self._path).unlink()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self._path)
        listener.listen(1)
        ours, theirs = packet_pair()
        with theirs:
            channel = self._listen(self._context, self._path, listener, ours, os.getuid())
            self._say({})
            heard = ", ".join(self._hear(channel))
            self._say({"heard": heard, "kib": _resident_kib()})
            channel.close()

    def _hear(self, channel: Any) -> Iterator[str]:
        """As the loop does: one message a turn, the first violation is the last thing heard."""
        import zmq

        from ipc.errors import ChannelClosed, ProtocolViolation

        poller = zmq.Poller()
        poller.register(channel.source, zmq.POLLIN)
        poller.register(self._control.fileno(), zmq.POLLIN)
        written = False
        while True:
            ready = dict(poller.poll(QUIET_MS if written else None))
            if self._control.fileno() in ready:
                written = bool(self._control.recv(64)) or True
                poller.unregister(self._control.fileno())
            if channel.source in ready:
                try:
                    message, _ = channel.receive(0)
                    yield type(message).__name__
                except ChannelClosed:
                    continue
                except ProtocolViolation as violation:
                    if not written:
                        self._control.recv(64)
                    yield f"{type(violation).__name__}: {violation}"
                    return
            elif written and not ready:
                yield "quiet"
                return

    def _say(self, answer: dict[str, Any]) -> None:
        self._control.send(msgspec.json.encode(answer))


def _resident_kib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
