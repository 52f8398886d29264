# SPDX-License-Identifier: Apache-2.0
"""Owns the one way in which a package is refused. Runs in the unpacker."""

from ipc.errors import AgentError

LONGEST_NAME = 120


class RefusedPackage(AgentError):
    """Nothing of it is used; the text says why, and which entry."""


def quoted(name: str) -> str:
    """An entry's name for people, whatever is in it."""
    return ascii(name[:LONGEST_NAME])
