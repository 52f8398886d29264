# SPDX-License-Identifier: Apache-2.0
"""Owns giving back what only a start needed; for the processes that live long and are small afterwards."""

import gc

from supervisor.jail import syscalls


def settle() -> None:
    """All that is loaded stays: the collector, off until now, never looks at it again, and works on what comes."""
    gc.freeze()
    gc.enable()


def give_back() -> None:
    """Collect what nobody refers to any more, and let the kernel have the pages."""
    gc.collect()
    syscalls.trim_heap()
