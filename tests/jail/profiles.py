# SPDX-License-Identifier: Apache-2.0
"""Owns small profiles and call sets for the jail's tests: one mechanism's input at a time."""

from typing import Any

from policy.filters import program
from policy.groups import CallSet, Only
from policy.profile import (
    Calls,
    Capability,
    Descriptors,
    Families,
    Identity,
    Lifetime,
    Limits,
    Namespaces,
    PathGrant,
    Profile,
)

WHY = "what the test is about"
LIMITS = Limits(memory_mib=64, pids=16, cpu_percent=50, open_files=32, file_size_mib=1, why=WHY)
# Everything that CPython needs to go on in a test's child.
PLENTY = frozenset(
    """
    read write close lseek pread64 fstat newfstatat openat fcntl ioctl mmap munmap mprotect mremap madvise brk futex
    getpid getppid gettid clock_gettime clock_nanosleep getrandom rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack
    exit exit_group set_robust_list rseq sched_yield tgkill poll select pselect6 sched_getaffinity kill getuid socket
    seccomp prctl access faccessat
    """.split()
)


def profile(**parts: Any) -> Profile:
    """A profile with nothing in it but `parts`."""
    calls = Calls(groups=(), names=(), why=WHY)
    plain: dict[str, Any] = {
        "kind": "probe",
        "module": "workers.probe",
        "why": WHY,
        "start": "fork",
        "transport": "packet",
        "view": "host",
        "identity": Identity(uid=61000, why=WHY),
        "namespaces": Namespaces(new=("net",), why=WHY),
        "startup_calls": calls,
        "locked_calls": calls,
        "limits": LIMITS,
        "families": Families(names=(), why=WHY),
        "descriptors": Descriptors(types=("null", "pipe", "unix"), why=WHY),
        "lifetime": Lifetime(kind="one-shot", deadline_s=1.0, instances=1, why=WHY),
    }
    return Profile(**(plain | parts))


def grants(**accesses: str) -> tuple[PathGrant, ...]:
    """Path grants from access="path" pairs."""
    return tuple(PathGrant(path=path, access=access, why=WHY) for access, path in accesses.items())  # type: ignore[arg-type]


def capabilities(*names: str) -> tuple[Capability, ...]:
    """Capabilities by name."""
    return tuple(Capability(name=name, why=WHY) for name in names)


def filter_of(allowed: frozenset[str], *only: Only, enosys: frozenset[str] = frozenset(), kill: bool = True) -> bytes:
    """A compiled filter that allows just these calls."""
    return program(CallSet(allowed, enosys, only, "kill" if kill else "enosys"), "test")
