# SPDX-License-Identifier: Apache-2.0
"""Uid, capabilities, secure bits and the small flags: exactly what was asked for, and no way back."""

import ctypes
import errno
import mmap
import os
import resource
import signal
from pathlib import Path

import pytest

from policy.capability import mask
from policy.profile import Limits
from supervisor.jail import capabilities, identity, mdwe, rlimits, syscalls
from tests.jail.forked import attempt, in_child, listed, status_of
from tests.jail.profiles import LIMITS

pytestmark = pytest.mark.root
UID = 61002
SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")


def sets() -> list[int]:
    status = status_of()
    return [int(status[name], 16) for name in SETS]


def become(uid: int, *names: str) -> None:
    identity.take(uid, uid, frozenset(names))
    capabilities.limit_to(frozenset(names))


def sets_of_a_program() -> list[int]:
    """The same sets of a program that this process starts."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writer, 1)
        os.execv("/bin/cat", ["cat", "/proc/self/status"])
    os.close(writer)
    with os.fdopen(reader, "rb") as output:
        pairs = dict(line.split(":", 1) for line in output.read().decode().splitlines())
    os.waitpid(pid, 0)
    return [int(pairs[name], 16) for name in SETS]


@pytest.mark.parametrize("uid", [0, UID])
@pytest.mark.parametrize("names", [(), ("chown", "fowner"), ("setpcap",)])
def test_all_five_sets_are_exactly_the_names(uid: int, names: tuple[str, ...]) -> None:
    def act() -> list[list[int]]:
        become(uid, *names)
        return [sets(), sets_of_a_program()]

    assert in_child(act).value == [[mask(names)] * 5] * 2


def test_without_it_root_keeps_everything_over_a_program_start() -> None:
    assert in_child(lambda: [sets_of_a_program()[1] == sets()[1]]).value == [True]


def test_ids_and_groups_are_taken_for_good() -> None:
    def act() -> list[object]:
        become(UID)
        status = status_of()
        back = [attempt(lambda: os.setuid(0)), attempt(lambda: os.setgid(0)), attempt(lambda: os.setgroups([0]))]
        return [status["Uid"], status["Gid"], status["Groups"], back]

    assert in_child(act).value == [" ".join([str(UID)] * 4)] * 2 + ["", [errno.EPERM] * 3]


def test_root_without_capabilities_may_not_pass_over_modes(tmp_path: Path) -> None:
    os.chown(tmp_path, UID, UID)
    tmp_path.chmod(0o700)

    def look() -> int:
        return attempt(lambda: listed(tmp_path))

    def confined() -> int:
        become(0)
        return look()

    assert in_child(look).value == 0
    assert in_child(confined).value == errno.EACCES


def test_secure_bits_are_locked_and_nothing_is_raised_again() -> None:
    def act() -> list[object]:
        become(0, "chown", "setpcap")
        bits = syscalls.prctl(27)
        lower = attempt(lambda: syscalls.prctl(28, 0))
        syscalls.prctl(47, 4)
        raised = attempt(lambda: syscalls.prctl(47, 2, 0))
        grown = attempt(lambda: syscalls.capset(mask(["kill"]), mask(["kill"]), 0))
        return [bits, lower, raised, grown]

    bits, *answers = in_child(act).value
    assert bits == 0b11101111
    assert answers == [errno.EPERM] * 3


def test_who_holds_setuid_loses_all_by_leaving_root() -> None:
    def act() -> list[int]:
        become(0, "setuid", "setgid")
        os.setresgid(UID, UID, UID)
        os.setresuid(UID, UID, UID)
        return [sets()[1], sets()[2], sets()[4], attempt(lambda: os.setuid(0))]

    assert in_child(act).value == [0, 0, 0, errno.EPERM]


def test_an_unknown_capability_is_refused() -> None:
    with pytest.raises(ValueError, match="not in tuple"):
        capabilities.hold(frozenset({"fly"}))


def test_no_new_privileges_holds_over_set_uid_programs(tmp_path: Path) -> None:
    program = tmp_path / "id"
    program.write_bytes(Path("/usr/bin/id").read_bytes())
    program.chmod(0o4755)
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o055 != 0o055 and folder != Path("/"):
            folder.chmod(0o755)

    def euid(locked: bool) -> str:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.dup2(writer, 1)
            os.setresuid(UID, UID, UID)
            if locked:
                capabilities.no_new_privileges()
            os.execv(program, ["id", "-u"])
        os.close(writer)
        with os.fdopen(reader) as output:
            text = output.read().strip()
        os.waitpid(pid, 0)
        return text

    assert euid(locked=False) == "0"
    assert euid(locked=True) == str(UID)


def test_dumpable_off_hides_memory_from_the_same_uid() -> None:
    def watched(hidden: bool) -> int:
        def act() -> int:
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                become(UID)
                capabilities.allow_dump()
                if hidden:
                    capabilities.forbid_dump()
                os.write(writer, b"x")
                signal.pause()
            os.read(reader, 1)
            become(UID)
            seen = attempt(lambda: os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY)))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return seen

        return int(in_child(act).value)

    assert watched(hidden=False) == 0
    assert watched(hidden=True) == errno.EACCES


@pytest.mark.parametrize("asked", [True, False])
def test_a_process_dies_with_its_parent_only_if_asked(asked: bool) -> None:
    reader, writer = os.pipe()

    def parent() -> int:
        ready, told = os.pipe()
        pid = os.fork()
        if pid == 0:
            if asked:
                become(UID)
                capabilities.die_with_parent()
            os.write(told, b"x")
            # Only the writer stays open: its other end tells when this process is gone.
            os.dup2(writer, 0)
            os.closerange(1, 256)
            signal.pause()
        os.read(ready, 1)
        return pid

    pid = int(in_child(parent).value)
    os.close(writer)
    if asked:
        assert os.read(reader, 1) == b""  # its end of the pipe closed with it
    else:
        os.kill(pid, 0)
        os.kill(pid, signal.SIGKILL)
    os.close(reader)


def test_writable_code_is_denied() -> None:
    def writable_code() -> int:
        return attempt(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close())

    def data_made_code() -> int:
        page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(page))
        libc = ctypes.CDLL(None, use_errno=True)
        return libc.mprotect(ctypes.c_void_p(address), 4096, mmap.PROT_READ | mmap.PROT_EXEC) and ctypes.get_errno()

    def confined() -> list[int]:
        mdwe.deny_writable_code()
        return [writable_code(), data_made_code()]

    assert in_child(lambda: [writable_code(), data_made_code()]).value == [0, 0]
    assert in_child(confined).value == [errno.EACCES, errno.EACCES]


def test_limits_are_lowered_for_good(tmp_path: Path) -> None:
    def act() -> list[object]:
        # First: whatever else this process has open may be more already than the limit allows.
        file = os.open(tmp_path / "file", os.O_CREAT | os.O_WRONLY)
        rlimits.lower(LIMITS)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        too_far = attempt(lambda: os.pwrite(file, b"x", LIMITS.file_size_mib << 20))
        opened = 0
        while not (refused := attempt(lambda: os.open("/dev/null", os.O_RDONLY))):
            opened += 1
        become(UID)
        raised = []
        for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
            try:
                resource.setrlimit(kind, (1 << 30, 1 << 30))
                raised.append(kind)
            except ValueError:
                pass
        return [too_far, refused, opened < LIMITS.open_files, resource.getrlimit(resource.RLIMIT_CORE), raised]

    assert in_child(act).value == [errno.EFBIG, errno.EMFILE, True, [0, 0], []]


def test_a_lower_limit_stays() -> None:
    def act() -> int:
        resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
        rlimits.lower(LIMITS)
        return resource.getrlimit(resource.RLIMIT_NOFILE)[1]

    assert in_child(act).value == 20


def test_processes_are_limited_for_a_uid() -> None:
    def act() -> int:
        rlimits.lower(Limits(64, 1, 50, 32, 1, "one process for this uid"))
        become(UID)
        return attempt(os.fork)

    assert in_child(act).value == errno.EAGAIN
