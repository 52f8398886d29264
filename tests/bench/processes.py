# SPDX-License-Identifier: Apache-2.0
"""Owns what /proc tells about a tree of processes: memory, CPU, wake-ups, children; changes nothing in them.

Needs root for processes of other users. A process that ends while it is looked at counts as nothing."""

import array
import os
import select
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat after the program's name, counted from `state`: proc(5) numbers them from 3.
_PPID, _CHILD_FAULTS, _UTIME, _STIME, _CHILD_UTIME, _CHILD_STIME, _STARTED = 1, 8, 11, 12, 13, 14, 19
# /proc/PID/pagemap: eight bytes a page; a page that is there has its frame's number in the low bits.
_PAGE = os.sysconf("SC_PAGE_SIZE")
_ENTRY, _PRESENT, _FRAME = 8, 1 << 63, (1 << 55) - 1
_USER_SPACE_ENDS = 1 << 63


@dataclass(frozen=True)
class Family:
    """A tree at one moment: who lives, and what each has reaped, as the minor faults of its ended children."""

    pids: frozenset[int]
    reaped_faults: dict[int, int]


@dataclass(frozen=True)
class Idle:
    """What a tree cost over a stretch of time; memory is that at its end."""

    seconds: float
    pss_mib: float
    root_rss_mib: float
    cpu_s_a_minute: float
    wakeups_a_second: float
    children: int


def process_tree(pid: int) -> tuple[int, ...]:
    """`pid` and all its descendants that live now, parents first; empty when it is gone."""
    children: dict[int, list[int]] = {}
    for member in _everybody():
        if fields := _stat(member):
            children.setdefault(int(fields[_PPID]), []).append(member)
    tree = [pid] if _stat(pid) else []
    for member in tree:
        tree.extend(sorted(children.get(member, ())))
    return tuple(tree)


def pss_mib(pids: Iterable[int]) -> float:
    """Proportional set size of all together, MiB: pages that several share count once."""
    return sum(_kib(_read(pid, "smaps_rollup"), "Pss:") for pid in pids) / 1024


def rss_mib(pid: int) -> float:
    """Resident set size of one process, MiB."""
    return _kib(_read(pid, "status"), "VmRSS:") / 1024


def pss_alone_mib(pids: Iterable[int]) -> float:
    """PSS of all together as it would be on a machine without other Python programs, MiB; 0 where pages can't be seen.

    The pages of an interpreter and its libraries are shared among all who run it. A test, its lab and the emulated
    host do, so that plain PSS says more about them: here their part falls back to the processes in question."""
    own = frozenset(pids)
    ours: Counter[int] = Counter()
    everybody: Counter[int] = Counter()
    for pid in _everybody():
        if pid in own:
            ours.update(_frames(pid))
        elif not _runs_python(pid):
            everybody.update(_frames(pid))
    return sum(number / (number + everybody[frame]) for frame, number in ours.items()) * _PAGE / 2**20


def program_name(pid: int) -> str:
    """What the kernel calls the program that the process runs; "" when it is gone."""
    return _read(pid, "comm").strip()


def started_at(pid: int) -> float:
    """When the process began, on the monotonic clock, up to 10 ms early; ProcessLookupError when it is gone."""
    fields = _stat(pid)
    if not fields:
        raise ProcessLookupError(f"process {pid} is gone")
    suspended = time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)
    return int(fields[_STARTED]) / _TICKS - suspended


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU seconds of all together, with those of children that they have reaped.

    To the nanosecond where the kernel tells it for living threads, else to the tick (10 ms)."""
    return sum(_cpu_of(pid) for pid in pids)


def wakeups(pids: Iterable[int]) -> int:
    """How often the threads of these processes have gone to sleep of their own will so far: as many wake-ups."""
    return sum(
        int(line.split()[1])
        for pid in pids
        for status in _tasks(pid, "status")
        for line in status.splitlines()
        if line.startswith("voluntary_ctxt_switches:")
    )


def family(pid: int) -> Family:
    """The tree below `pid`, to be compared with a later one."""
    pids = process_tree(pid)
    faults = {member: int(fields[_CHILD_FAULTS]) for member in pids if (fields := _stat(member))}
    return Family(frozenset(pids), faults)


def child_processes_started(before: Family, after: Family) -> int:
    """Processes started in between: the new ones that live, and one for each parent that has reaped any since.

    A lower bound as a number, exact as a yes or no: no process lives and dies without a page fault, and a parent
    that has waited for it shows them. (Children of a parent that ignores SIGCHLD are not seen.)"""
    newborn = len(after.pids - before.pids)
    reapers = sum(after.reaped_faults.get(pid, faults) > faults for pid, faults in before.reaped_faults.items())
    return newborn + reapers


def watch_idle(pid: int, seconds: float, clock: Callable[[], float]) -> Idle:
    """Let the tree below `pid` alone for `seconds`; what it did meanwhile. ProcessLookupError if `pid` ends in them."""
    first, cpu, woken, start = family(pid), _total_cpu(pid), wakeups(process_tree(pid)), clock()
    _let_pass(pid, seconds)
    elapsed = clock() - start
    tree = process_tree(pid)
    return Idle(
        seconds=elapsed,
        pss_mib=pss_mib(tree),
        root_rss_mib=rss_mib(pid),
        cpu_s_a_minute=(_total_cpu(pid) - cpu) * 60 / elapsed,
        wakeups_a_second=(wakeups(tree) - woken) / elapsed,
        children=child_processes_started(first, family(pid)),
    )


def _total_cpu(pid: int) -> float:
    return cpu_seconds(process_tree(pid))


def _let_pass(pid: int, seconds: float) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        if poller.poll(int(seconds * 1000)):
            raise ProcessLookupError(f"process {pid} ended while it was watched")
    finally:
        os.close(pidfd)


def _cpu_of(pid: int) -> float:
    fields = _stat(pid)
    if not fields:
        return 0.0
    reaped = (int(fields[_CHILD_UTIME]) + int(fields[_CHILD_STIME])) / _TICKS
    precise = [int(text.split()[0]) for text in _tasks(pid, "schedstat") if text]
    if precise:
        return reaped + sum(precise) / 1e9
    return reaped + (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS


def _everybody() -> list[int]:
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit()]


def _runs_python(pid: int) -> bool:
    try:
        return (PROC / str(pid) / "exe").readlink().name.startswith("python")
    except OSError:
        return False


def _frames(pid: int) -> set[int]:
    """The numbers of the page frames that the process has in memory."""
    frames: set[int] = set()
    try:
        with (PROC / str(pid) / "pagemap").open("rb", buffering=0) as pagemap:
            for line in _read(pid, "maps").splitlines():
                start, end = (int(bound, 16) for bound in line.split(maxsplit=1)[0].split("-"))
                if end <= _USER_SPACE_ENDS:
                    pagemap.seek(start // _PAGE * _ENTRY)
                    entries = array.array("Q", pagemap.read((end - start) // _PAGE * _ENTRY))
                    frames.update(entry & _FRAME for entry in entries if entry & _PRESENT)
    except OSError:
        return set()
    return frames - {0}


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from `state` on: the name before them may have blanks and brackets."""
    return _read(pid, "stat").rpartition(")")[2].split()


def _tasks(pid: int, name: str) -> list[str]:
    try:
        tasks = [entry.name for entry in (PROC / str(pid) / "task").iterdir()]
    except OSError:
        return []
    return [_read(pid, f"task/{task}/{name}") for task in tasks]


def _read(pid: int, name: str) -> str:
    try:
        return (PROC / str(pid) / name).read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _kib(text: str, key: str) -> int:
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith(key)), 0)
