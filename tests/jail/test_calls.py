# SPDX-License-Identifier: Apache-2.0
"""The compiled lists of the real policy: a ZeroMQ worker does its work under them, and nothing beside it."""

import ctypes
import errno
import faulthandler
import os
import signal
import socket
import threading
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq

from ipc.descriptors import packet_pair, read_sealed, sealed_memfd
from ipc.messages import ParseVersions, Versions, WorkerReady
from ipc.pair import connect, listen
from policy.compile import compile_policy
from policy.load import own_folder
from policy.profile import Compiled
from policy.sources import read_sources
from supervisor.jail import capabilities, mdwe, seccomp
from tests.jail.forked import PATIENCE_S, End, attempt, in_child

pytestmark = pytest.mark.root
DOCUMENT = b"<Versions/>" * 1000


@pytest.fixture(scope="module")
def parser() -> Compiled:
    programs = compile_policy(read_sources(own_folder())).programs
    return next(compiled for compiled in programs if compiled.profile.kind == "parser")


def start(parser: Compiled) -> None:
    capabilities.no_new_privileges()
    mdwe.deny_writable_code()
    seccomp.load(parser.startup_filter)


def locked(parser: Compiled, act: Callable[[], object]) -> End:
    def worker() -> object:
        start(parser)
        seccomp.load(parser.locked_filter, all_threads=True)
        return act()

    return in_child(worker)


def test_a_whole_job_over_zeromq_with_descriptors_both_ways(parser: Compiled, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(1)
    ours, theirs = packet_pair()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            _worker(parser, path, theirs)
            status = 0
        finally:
            os._exit(status)
    theirs.close()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
    channel = listen(context, path, listener, ours, os.getuid())
    try:
        assert channel.receive(PATIENCE_S) == (WorkerReady(), ())
        document = sealed_memfd("document", DOCUMENT)
        channel.send(ParseVersions(), (document,))
        os.close(document)
        answer, (returned,) = channel.receive(PATIENCE_S)
        assert answer == Versions("2012-11-30", ())
        assert read_sealed(returned, 1 << 20) == DOCUMENT[::-1]
        os.close(returned)
        channel.send(ParseVersions())
        assert os.waitpid(pid, 0)[1] == 0
    finally:
        channel.close()
        context.destroy(0)


def _worker(parser: Compiled, path: str, side: socket.socket) -> None:
    start(parser)
    faulthandler.enable(file=2)
    channel = connect(zmq.Context(io_threads=1), path, side)
    seccomp.load(parser.locked_filter, all_threads=True)
    channel.send(WorkerReady())
    _, (document,) = channel.receive(PATIENCE_S)
    content = read_sealed(document, 1 << 20)
    pieces = [bytes(100_000) for _ in range(300)] + [bytes(30 << 20)]
    del pieces
    returned = sealed_memfd("answer", content[::-1])
    channel.send(Versions("2012-11-30", ()), (returned,))
    os.close(returned)
    channel.receive(PATIENCE_S)


FORBIDDEN: dict[str, Callable[[], object]] = {
    "a program": lambda: os.execv("/bin/true", ["true"]),
    "a process": lambda: os.fork() or os._exit(0),
    "a thread": lambda: threading.Thread(target=int).start(),
    "a TCP socket": lambda: socket.socket(socket.AF_INET),
    "a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW),
    "a listening socket": lambda: socket.socket(socket.AF_UNIX).bind("\0x"),
    "a signal to a process": lambda: os.kill(os.getppid(), 0),
    "another uid": lambda: os.setuid(1),
    "a file made": lambda: os.mkfifo("/tmp/agent-supervisor-never"),
    "a file removed": lambda: os.unlink("/tmp/agent-supervisor-never"),  # noqa: PTH108 - the call itself is the test
    "ptrace": lambda: _libc().ptrace(0, 0, 0, 0),
    "a namespace": lambda: _libc().unshare(0x10000000),
    "a third filter": lambda: seccomp.load(bytes(8)),
    "dumpable again": capabilities.allow_dump,
    "a page made code": lambda: _libc().mprotect(ctypes.c_void_p(0), 4096, 4),
}


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


@pytest.mark.parametrize("what", FORBIDDEN)
def test_a_locked_worker_dies_of(parser: Compiled, what: str) -> None:
    _libc()
    assert locked(parser, FORBIDDEN[what]).signal == signal.SIGSYS


@pytest.mark.parametrize("what", ["a process", "a TCP socket", "a file made", "a signal to a process"])
def test_without_the_filter_the_same_is_no_signal(what: str) -> None:
    def free() -> None:
        FORBIDDEN[what]()

    end = in_child(free)
    Path("/tmp/agent-supervisor-never").unlink(missing_ok=True)
    assert end.signal == 0


def test_names_are_answered_as_if_no_such_call_existed(parser: Compiled) -> None:
    names: list[Callable[[], object]] = [
        Path("/etc/passwd").read_bytes,
        Path("/etc").stat,
        Path("/proc/self/exe").readlink,
    ]
    assert locked(parser, lambda: [attempt(name) for name in names]).value == [errno.ENOSYS] * 3
    assert in_child(lambda: [attempt(name) for name in names]).value == [0, 0, 0]


def test_a_traceback_can_still_be_printed(parser: Compiled) -> None:
    """What a dying worker says last needs no file: the frames' names are in memory, their source lines stay away."""

    def act() -> bool:
        try:
            raise ValueError("told")
        except ValueError:
            return "told" in traceback.format_exc()

    assert locked(parser, act).value is True


def test_a_hung_worker_shows_its_stack_when_aborted(parser: Compiled) -> None:
    reader, writer = os.pipe()
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        start(parser)
        faulthandler.enable(file=writer)
        seccomp.load(parser.locked_filter, all_threads=True)
        os.write(told, b"x")
        while True:
            pass
    os.close(writer)
    os.read(ready, 1)
    os.kill(pid, signal.SIGABRT)
    status = os.waitpid(pid, 0)[1]
    with os.fdopen(reader, "rb") as output:
        assert b"Current thread" in output.read()
    assert os.WTERMSIG(status) == signal.SIGABRT
    os.close(ready)
    os.close(told)
