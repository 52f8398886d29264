# SPDX-License-Identifier: Apache-2.0
"""Owns capabilities, secure bits and the other prctl flags of the calling thread; runs in the child being confined.

The one file that imports python-prctl (GPL-3 or later; packaging must say so). It never widens a set.
"""

import errno
import signal

import prctl

from policy.capability import mask
from supervisor.jail import syscalls

_PR_CAPBSET_DROP, _PR_SET_SECUREBITS = 24, 28
_PR_CAP_AMBIENT, _AMBIENT_RAISE, _AMBIENT_CLEAR_ALL = 47, 2, 4

NOROOT, NO_SETUID_FIXUP, KEEP_CAPS, NO_AMBIENT_RAISE = 1 << 0, 1 << 2, 1 << 4, 1 << 6
LOCKED = 1 << 1 | 1 << 3 | 1 << 5 | 1 << 7


def secure_bits(names: frozenset[str]) -> int:
    """The secure bits for a process that keeps `names`: uid 0 means nothing, no set grows, and all that is locked.

    A process with `setuid` is there to become somebody else for good: for it the kernel's rule stays in force that
    leaving uid 0 clears every set."""
    fixup = 0 if "setuid" in names else NO_SETUID_FIXUP
    return NOROOT | fixup | NO_AMBIENT_RAISE | LOCKED


def survive_uid_change() -> None:
    """Let the permitted set outlive the next change of uid away from 0."""
    prctl.set_keepcaps(1)


def hold(names: frozenset[str]) -> None:
    """Permitted and effective become `names` and setpcap, which `limit_to` needs and then gives up."""
    held = mask(names | {"setpcap"})
    syscalls.capset(held, held, 0)


def limit_to(names: frozenset[str]) -> None:
    """Bounding, permitted, effective, inheritable and ambient become exactly `names`; secure bits set and locked.

    Needs setpcap; drops it unless it is among `names`."""
    kept = mask(names)
    with_setpcap = kept | mask(("setpcap",))
    for capability in range(64):
        if not kept >> capability & 1 and not _drop_from_bounding(capability):
            break
    syscalls.prctl(_PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL)
    syscalls.capset(with_setpcap, with_setpcap, kept)
    for capability in range(kept.bit_length()):
        if kept >> capability & 1:
            syscalls.prctl(_PR_CAP_AMBIENT, _AMBIENT_RAISE, capability)
    # python-prctl refuses the ambient bits, which are younger than it.
    syscalls.prctl(_PR_SET_SECUREBITS, secure_bits(names))
    syscalls.capset(kept, kept, kept)


def keep_for_programs(names: frozenset[str]) -> None:
    """The ambient set stays `names`, as `limit_to` left it, or becomes empty."""
    if not names:
        syscalls.prctl(_PR_CAP_AMBIENT, _AMBIENT_CLEAR_ALL)


def narrow_to(names: frozenset[str]) -> None:
    """Bounding, permitted and effective become `names`, which must hold setpcap; nothing is locked, so that children
    can still take their own secure bits. For the spawner, which gives children what it has."""
    kept = mask(names)
    for capability in range(64):
        if not kept >> capability & 1 and not _drop_from_bounding(capability):
            break
    syscalls.capset(kept, kept, 0)


def no_new_privileges() -> None:
    """No execve gives more than the process has."""
    prctl.set_no_new_privs(1)


def forbid_dump() -> None:
    """No core, no ptrace and no reading of /proc/PID by others of the same uid. An execve undoes it."""
    prctl.set_dumpable(0)


def allow_dump() -> None:
    """For the moment in which a process without capabilities writes to its own /proc folder (namespaces.py)."""
    prctl.set_dumpable(1)


def die_with_parent() -> None:
    """SIGKILL when the thread that forked this process ends. Every later change of uid clears it."""
    prctl.set_pdeathsig(signal.SIGKILL)


def _drop_from_bounding(capability: int) -> bool:
    """False once `capability` is beyond the last that the kernel knows."""
    try:
        syscalls.prctl(_PR_CAPBSET_DROP, capability)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return False
        raise
    return True
