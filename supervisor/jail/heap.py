# SPDX-License-Identifier: Apache-2.0
"""Owns giving back what only a start needed; for the processes that live long and are small afterwards."""

import gc

from supervisor.jail import syscalls


def give_back() -> None:
    """Collect what nobody refers to any more, and let the kernel have the pages."""
    gc.collect()
    trim()


def trim() -> None:
    """Let the kernel have the pages that nothing is in."""
    syscalls.trim_heap()
