# SPDX-License-Identifier: Apache-2.0
"""Channels between real processes: messages, descriptors, and every way in which the other side can break the rules."""

import fcntl
import itertools
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from ipc.channel import Channel, PacketChannel
from ipc.codec import MAX_FRAME_BYTES, encode
from ipc.descriptors import SEALS, packet_pair, read_sealed, sealed_memfd
from ipc.errors import BadDescriptor, ChannelClosed, MalformedMessage
from ipc.messages import ParseVersions, PlanComplete, WorkerReady
from ipc.pair import ZmqChannel, connect, listen

OWN_UID = os.getuid()


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield context
    context.destroy(linger=0)


Ends = tuple[ZmqChannel, str, socket.socket]


@pytest.fixture
def ends(context: zmq.Context[zmq.Socket[bytes]], tmp_path: Path) -> Iterator[Ends]:
    """The supervisor's end, the path to connect to, and the worker's packet socket."""
    ours, theirs = packet_pair()
    path = str(tmp_path / "s")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    channel = listen(context, path, listener, ours, OWN_UID)
    yield channel, path, theirs
    channel.close()
    theirs.close()


def open_descriptors() -> int:
    """How many descriptors this process has."""
    return len(list(Path("/proc/self/fd").iterdir()))


def in_child(work: Callable[[], None]) -> int:
    """Run `work` in a child process; its pid."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    return pid


def exit_status(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_messages_and_descriptors_go_both_ways(ends: Ends) -> None:
    ours, path, theirs = ends

    def worker() -> None:
        channel = connect(zmq.Context(), path, theirs)
        channel.send(WorkerReady())
        request, descriptors = channel.receive(5)
        content = read_sealed(descriptors[0], 100)
        channel.send(PlanComplete(request.proposals), [sealed_memfd("answer", content[::-1])])  # type: ignore[attr-defined]
        channel.close()

    pid = in_child(worker)
    assert ours.receive(5) == (WorkerReady(), ())
    ours.send(PlanComplete(3), [sealed_memfd("request", b"abc")])
    answer, descriptors = ours.receive(5)
    assert answer == PlanComplete(3)
    assert read_sealed(descriptors[0], 100) == b"cba"
    assert exit_status(pid) == 0


def test_a_worker_ends_when_the_supervisor_does(ends: Ends, context: zmq.Context[zmq.Socket[bytes]]) -> None:
    ours, path, theirs = ends
    channel = connect(context, path, theirs)
    channel.send(WorkerReady())
    assert ours.receive(5)[0] == WorkerReady()
    ours.close()
    with pytest.raises(ChannelClosed, match="closed"):
        channel.receive(5)
    channel.close()


@pytest.mark.root
def test_another_uid_is_not_heard(ends: Ends) -> None:
    ours, path, theirs = ends
    for part in Path(path).parents:
        if part.is_relative_to("/tmp") and part != Path("/tmp"):
            part.chmod(0o755)
    Path(path).chmod(0o666)

    def stranger() -> None:
        os.setuid(65534)
        channel = connect(zmq.Context(), path, theirs)
        try:
            channel.send(WorkerReady())
        finally:
            channel.close()

    pid = in_child(stranger)
    with pytest.raises(ChannelClosed, match="nothing came"):
        ours.receive(1)
    exit_status(pid)


RawPair = Callable[[str], "zmq.Socket[bytes]"]


@pytest.fixture
def raw_pair(context: zmq.Context[zmq.Socket[bytes]]) -> Iterator[RawPair]:
    """Connects to a path as a worker that knows no rules would."""
    pairs: list[zmq.Socket[bytes]] = []

    def connected(path: str) -> zmq.Socket[bytes]:
        pair = context.socket(zmq.PAIR)
        pairs.append(pair)
        pair.connect(f"ipc://{path}")
        return pair

    yield connected
    for pair in pairs:
        pair.close(linger=0)


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ([b"noise"], "not msgpack"),
        ([encode(PlanComplete(1), 1)], "frame 1 came where 0 was due"),
        ([encode(PlanComplete(1), 0), b"second part"], "several parts"),
    ],
)
def test_a_frame_that_breaks_the_rules_is_a_violation(
    ends: Ends, raw_pair: RawPair, frames: list[bytes], said: str
) -> None:
    ours, path, _ = ends
    pair = raw_pair(path)
    pair.send_multipart(frames)
    with pytest.raises(MalformedMessage, match=said):
        ours.receive(5)


def test_a_replayed_frame_is_a_violation(ends: Ends, raw_pair: RawPair) -> None:
    ours, path, _ = ends
    pair = raw_pair(path)
    pair.send(encode(PlanComplete(1), 0))
    pair.send(encode(PlanComplete(1), 0))
    assert ours.receive(5)[0] == PlanComplete(1)
    with pytest.raises(MalformedMessage, match="frame 0 came where 1 was due"):
        ours.receive(5)


def test_an_oversized_frame_never_arrives(ends: Ends, raw_pair: RawPair) -> None:
    ours, path, _ = ends
    pair = raw_pair(path)
    pair.send(b"x" * (MAX_FRAME_BYTES + 1))
    with pytest.raises(ChannelClosed, match="nothing came"):
        ours.receive(0.5)


def test_a_peer_of_the_protocols_first_version_is_a_violation(ends: Ends) -> None:
    """libzmq still answers it, and can't say who it is."""
    ours, path, _ = ends
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect(path)
        peer.sendall(b"\x01\0" + b"\x06\0hello")
        with pytest.raises(MalformedMessage, match="says nothing of itself"):
            ours.receive(5)


def test_announced_descriptors_must_come(ends: Ends, raw_pair: RawPair) -> None:
    ours, path, _ = ends
    pair = raw_pair(path)
    pair.send(encode(PlanComplete(1), 0, 1))
    with pytest.raises(BadDescriptor, match="none came"):
        ours.receive(5)


def test_descriptors_of_another_frame_are_refused_and_closed(ends: Ends, raw_pair: RawPair) -> None:
    ours, path, theirs = ends
    before = open_descriptors()
    socket.send_fds(theirs, [b"\7" + b"\0" * 7], [0])
    pair = raw_pair(path)
    pair.send(encode(PlanComplete(1), 0, 1))
    with pytest.raises(BadDescriptor, match="do not belong"):
        ours.receive(5)
    assert open_descriptors() <= before + 3  # libzmq's own for the new connection


def send_for_ever(channel: Channel) -> None:
    for number in itertools.count():
        channel.send(PlanComplete(number))


class TestPackets:
    @pytest.fixture
    def pair(self) -> Iterator[tuple[PacketChannel, socket.socket]]:
        ours, theirs = packet_pair()
        channel: Channel = PacketChannel(ours)
        yield PacketChannel(ours), theirs
        channel.close()
        theirs.close()

    def test_round_trip_with_a_descriptor(self, pair: tuple[PacketChannel, socket.socket]) -> None:
        ours, theirs = pair
        ours.send(PlanComplete(1), [sealed_memfd("x", b"bytes")])
        message, descriptors = PacketChannel(theirs).receive(5)
        assert message == PlanComplete(1)
        assert read_sealed(descriptors[0], 10) == b"bytes"

    def test_unannounced_descriptors_are_refused_and_closed(self, pair: tuple[PacketChannel, socket.socket]) -> None:
        ours, theirs = pair
        before = open_descriptors()
        socket.send_fds(theirs, [encode(ParseVersions(), 0)], [0, 1])
        with pytest.raises(BadDescriptor, match="2 descriptors came where 0"):
            ours.receive(5)
        assert open_descriptors() == before

    def test_too_many_descriptors_are_refused_and_closed(self, pair: tuple[PacketChannel, socket.socket]) -> None:
        ours, theirs = pair
        before = open_descriptors()
        socket.send_fds(theirs, [encode(ParseVersions(), 0)], [0] * 200)
        with pytest.raises(BadDescriptor, match="cut off"):
            ours.receive(5)
        assert open_descriptors() == before

    def test_the_end_is_told(self, pair: tuple[PacketChannel, socket.socket]) -> None:
        ours, theirs = pair
        theirs.close()
        with pytest.raises(ChannelClosed):
            ours.receive(5)
        with pytest.raises(ChannelClosed):
            ours.send(ParseVersions())

    def test_who_does_not_read_is_not_waited_for(self, pair: tuple[PacketChannel, socket.socket]) -> None:
        ours, _ = pair
        with pytest.raises(ChannelClosed, match="does not take"):
            send_for_ever(ours)


class TestSealedFiles:
    def test_nobody_changes_one(self) -> None:
        descriptor = sealed_memfd("x", b"fixed")
        with pytest.raises(PermissionError):
            os.write(descriptor, b"y")
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 0)
        assert read_sealed(descriptor, 5) == b"fixed"

    @pytest.mark.parametrize("left_out", [fcntl.F_SEAL_WRITE, fcntl.F_SEAL_GROW, fcntl.F_SEAL_SHRINK])
    def test_each_seal_is_needed(self, left_out: int) -> None:
        descriptor = os.memfd_create("x", os.MFD_ALLOW_SEALING)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS & ~left_out)
        with pytest.raises(BadDescriptor, match="not sealed"):
            read_sealed(descriptor, 100)

    def test_other_things_are_refused(self, tmp_path: Path) -> None:
        file = tmp_path / "file"
        file.write_bytes(b"content")
        reader, _ = os.pipe()
        with pytest.raises(BadDescriptor, match=r"not a memfd|not sealed"):
            read_sealed(os.open(file, os.O_RDONLY), 100)
        with pytest.raises(BadDescriptor, match="not a regular file"):
            read_sealed(reader, 100)
        with pytest.raises(BadDescriptor, match="over the limit"):
            read_sealed(sealed_memfd("x", b"12345"), 4)
