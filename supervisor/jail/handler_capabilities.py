# SPDX-License-Identifier: Apache-2.0
"""Owns which capabilities a vendor's command goes without: none of its programs gets them, whoever they run as.

Runs in the child that becomes the command, once that has no use for them itself: its warden, which keeps them, makes
its view. It must never leave one that was to go.
"""

from collections.abc import Iterable

from supervisor.jail import syscalls

_CAPBSET_DROP = 24
_SETPCAP = 8


def drop(numbers: Iterable[int]) -> None:
    """From the bounding set: they go with the next program. OSError. What the kernel does not know is nobody's."""
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as file:
        last = int(file.read())
    # The one that this takes goes last.
    for number in sorted(numbers, key=lambda number: (number == _SETPCAP, number)):
        if number <= last:
            syscalls.prctl(_CAPBSET_DROP, number)
