# SPDX-License-Identifier: Apache-2.0
"""Owns stopping one thread for milliseconds: its system-call filters read, harmless calls made in it, all put back.

Runs in the command, as root. While a call is made the thread's filters are set aside
for it alone. If this command is killed in that moment, so is the thread's process, which is then begun anew; it must
never run on with another's registers.
"""

import errno
import os
import re
import signal
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec

from supervisor.audit import calls

_CONT, _SYSCALL, _DETACH = 7, 24, 17
_SETOPTIONS, _GETREGSET, _SETREGSET, _SEIZE, _INTERRUPT = 0x4200, 0x4204, 0x4205, 0x4206, 0x4207
_GETSIGMASK, _SETSIGMASK, _SECCOMP_GET_FILTER = 0x420A, 0x420B, 0x420C
_SYSGOOD, _EXITKILL, _SUSPEND_SECCOMP = 1, 1 << 20, 1 << 21
_NT_PRSTATUS, _WALL, _EVENT_STOP = 1, 0x40000000, 128
_SYSCALL_STOP = signal.SIGTRAP | 0x80
_PATIENCE_S = 2.0
# A process that is left as it is then dies with this command: it is waited for much longer.
_LAST_PATIENCE_S = 60.0
# Below a stack's end lies what its function may still use (128 bytes on x86_64).
_RED_ZONE, _ROOM = 128, 512
_MOST_FILTERS = 64
_ALL_SIGNALS = b"\xff" * 8
_WORD = (1 << 64) - 1
# Stands for the address of `text` among the arguments of `Held.call`.
TEXT = -(1 << 62)


class Gone(Exception):
    """The thread ended."""


class Unseen(Exception):
    """It can't be looked at this way; the text says why."""


class _Machine(msgspec.Struct, frozen=True):
    """Where user_regs_struct has what, in words of 8 bytes, and which bytes make a system call."""

    words: int
    number: int
    arguments: tuple[int, ...]
    result: int
    stack: int
    counter: int
    original: int | None
    instruction: bytes


_MACHINES = {
    "x86_64": _Machine(27, 10, (14, 13, 12, 7, 9, 8), 10, 19, 16, 15, b"\x0f\x05"),
    "aarch64": _Machine(34, 8, (0, 1, 2, 3, 4, 5), 0, 31, 32, None, b"\x01\x00\x00\xd4"),
}


@contextmanager
def held(tid: int) -> Iterator["Held"]:
    """The thread `tid`, stopped; it goes on as if nothing had been when the block is left.

    Gone when it ends meanwhile; Unseen when the kernel does not let it be looked at."""
    machine = _MACHINES.get(os.uname().machine)
    if machine is None:
        raise Unseen(f"this command does not know the registers of {os.uname().machine}")
    _ptrace(_SEIZE, tid)
    # Nobody interrupts this command between taking a thread's registers and giving them back.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})
    try:
        _ptrace(_INTERRUPT, tid)
        _wait_for_stop(tid)
        thread = Held(tid, machine)
        try:
            yield thread
        finally:
            thread.let_go()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Held:
    """A stopped thread. Only `held` makes and ends it."""

    def __init__(self, tid: int, machine: _Machine) -> None:
        self._tid = tid
        self._machine = machine
        self._saved: list[int] = []
        self._mask = b""
        self._under = b""
        self._gate = 0

    def filters(self) -> tuple[bytes, ...]:
        """Its system-call filters as they were loaded (struct sock_filter arrays), the newest first."""
        found: list[bytes] = []
        try:
            while len(found) < _MOST_FILTERS:
                size = 8 * _ptrace(_SECCOMP_GET_FILTER, self._tid, len(found))
                found.append(calls.ptrace_block(_SECCOMP_GET_FILTER, self._tid, len(found), bytes(size)))
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise Unseen(f"its filters can't be read: {error.strerror}") from None
        # The kernel counts from the oldest.
        return tuple(reversed(found))

    def call(self, name: str, *arguments: int, text: bytes = b"") -> int:
        """The result of a system call made by the thread, -errno when it failed.

        `text` is put where the argument `TEXT` points; what the kernel writes there is had by `room`."""
        if not self._saved:
            self._prepare()
        machine, place = self._machine, self._room_address
        if text:
            self._write(place, text)
        words = list(self._saved)
        words[machine.number] = calls.NUMBERS[os.uname().machine][name]
        for index, argument in zip(machine.arguments, arguments, strict=False):
            words[index] = (place if argument == TEXT else argument) & _WORD
        words[machine.counter] = self._gate
        if machine.original is not None:
            words[machine.original] = _WORD  # no system call under way that the kernel would begin again
        self._set_registers(words)
        for _ in ("entered", "left"):
            _ptrace(_SYSCALL, self._tid)
            self._wait_for_call()
        result = self._registers()[machine.result]
        return result - (1 << 64) if result >> 63 else result

    def room(self, size: int) -> bytes:
        """What lies where `TEXT` pointed."""
        return self._read(self._room_address, size)

    def let_go(self) -> None:
        """Put everything back and let it run."""
        try:
            if self._saved:
                # Back to where it was stopped first: only on the way out of such a stop does the kernel itself begin an
                # interrupted call again.
                _ptrace(_INTERRUPT, self._tid)
                # It runs if the call took too long: nothing is to be continued then, and it stops by itself.
                with suppress(Gone):
                    _ptrace(_CONT, self._tid)
                _wait_for_stop(self._tid, _LAST_PATIENCE_S)
                self._write(self._room_address, self._under)
                self._set_registers(self._saved)
                calls.ptrace_block(_SETSIGMASK, self._tid, len(self._mask), self._mask)
            _ptrace(_DETACH, self._tid)
        except Gone:
            return

    @property
    def _room_address(self) -> int:
        return (self._saved[self._machine.stack] - _RED_ZONE - _ROOM) & ~0xF

    def _prepare(self) -> None:
        """Everything that is to be put back is kept; from here on this thread is this command's."""
        try:
            _ptrace(_SETOPTIONS, self._tid, 0, _SYSGOOD | _EXITKILL | _SUSPEND_SECCOMP)
        except OSError as error:
            why = f"the kernel does not let its filters be set aside for a call: {error.strerror}"
            raise Unseen(why) from None
        self._gate = self._find_gate()
        saved = self._registers()
        self._mask = calls.ptrace_block(_GETSIGMASK, self._tid, len(_ALL_SIGNALS), bytes(len(_ALL_SIGNALS)))
        self._saved = saved
        self._under = self._read(self._room_address, _ROOM)
        calls.ptrace_block(_SETSIGMASK, self._tid, len(_ALL_SIGNALS), _ALL_SIGNALS)

    def _find_gate(self) -> int:
        """Where the kernel's own code in the process (vdso) makes a system call."""
        with open(f"/proc/{self._tid}/maps", encoding="utf-8", errors="replace") as maps:
            found = re.search(r"^([0-9a-f]+)-([0-9a-f]+) r-xp .*\[vdso\]$", maps.read(), re.MULTILINE)
        if found is None:
            raise Unseen("it has no vdso to make a call from")
        begin, end = int(found[1], 16), int(found[2], 16)
        offset = self._read(begin, end - begin).find(self._machine.instruction)
        if offset < 0:
            raise Unseen("its vdso makes no system call")
        return begin + offset

    def _wait_for_call(self) -> None:
        while True:
            status = _wait(self._tid)
            if status >> 8 == _SYSCALL_STOP:
                return
            # A stop of the whole process on the way: it has to wait until we are done.
            _ptrace(_SYSCALL, self._tid)

    def _registers(self) -> list[int]:
        empty = bytes(8 * self._machine.words)
        block = calls.ptrace_block(_GETREGSET, self._tid, _NT_PRSTATUS, empty, as_vector=True)
        return list(struct.unpack(f"={self._machine.words}Q", block))

    def _set_registers(self, words: list[int]) -> None:
        block = struct.pack(f"={self._machine.words}Q", *words)
        calls.ptrace_block(_SETREGSET, self._tid, _NT_PRSTATUS, block, as_vector=True)

    def _read(self, address: int, size: int) -> bytes:
        with open(f"/proc/{self._tid}/mem", "rb", buffering=0) as memory:
            return os.pread(memory.fileno(), size, address)

    def _write(self, address: int, content: bytes) -> None:
        descriptor = os.open(f"/proc/{self._tid}/mem", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.pwrite(descriptor, content, address)
        finally:
            os.close(descriptor)


def _ptrace(request: int, tid: int, address: int = 0, data: int = 0) -> int:
    try:
        return calls.ptrace(request, tid, address, data)
    except OSError as error:
        if error.errno == errno.ESRCH:
            raise Gone(tid) from None
        raise


def _wait_for_stop(tid: int, patience_s: float = _PATIENCE_S) -> None:
    """Until it stands where PTRACE_INTERRUPT has it stand; a signal on the way is delivered to it first."""
    while True:
        status = _wait(tid, patience_s)
        if status >> 16 == _EVENT_STOP:
            return
        is_signal = status >> 16 == 0 and status >> 8 != _SYSCALL_STOP
        _ptrace(_CONT, tid, 0, os.WSTOPSIG(status) if is_signal else 0)


def _wait(tid: int, patience_s: float = _PATIENCE_S) -> int:
    """The status of the next stop; Gone when there will be none, Unseen when the thread can't be stopped."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            found, status = os.waitpid(tid, _WALL | os.WNOHANG)
        except ChildProcessError:
            raise Gone(tid) from None
        if found:
            if os.WIFSTOPPED(status):
                return status
            raise Gone(tid)
        if time.monotonic() > deadline:
            raise Unseen(f"thread {tid} did not stop within {patience_s:g} s")
        time.sleep(0.00005)
