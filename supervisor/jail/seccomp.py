# SPDX-License-Identifier: Apache-2.0
"""Owns loading a compiled system-call filter; runs in the child being confined, and again when a worker locks itself.

It compiles nothing: programs come ready from policy/compiled.bin.
"""

from ipc.errors import ConfinementError
from supervisor.jail import syscalls

_TSYNC = 1
_INSTRUCTION_BYTES, _LONGEST = 8, 4096


def load(program: bytes, all_threads: bool = False) -> None:
    """Put this thread (and those it starts later), or with `all_threads` every thread there is, under `program`.

    Needs no-new-privileges. Filters add up: the strictest answer counts."""
    if not program or len(program) % _INSTRUCTION_BYTES or len(program) > _LONGEST * _INSTRUCTION_BYTES:
        raise ConfinementError("seccomp", f"{len(program)} bytes are no filter")
    try:
        thread = syscalls.seccomp_filter(program, _TSYNC if all_threads else 0)
    except OSError as error:
        raise ConfinementError("seccomp", str(error)) from None
    if thread:
        raise ConfinementError("seccomp", f"thread {thread} could not be brought under the filter")
