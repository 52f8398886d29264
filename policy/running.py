# SPDX-License-Identifier: Apache-2.0
"""Owns finding the policy that a running agent is held to: the sealed file among its spawner's descriptors.

For root's commands that look at a live agent; nobody but the spawner can put that file there, and nobody change it.
"""

# pathlib loads urllib, and whoever looks at an agent should load little.
# ruff: noqa: PTH115, PTH208

import os
from contextlib import suppress

from policy.load import SEALED_NAME, given, load
from policy.profile import CompiledPolicy


def running(spawner: int, proc: str = "/proc") -> CompiledPolicy:
    """The policy in force in the agent whose first process is `spawner`: with overrides theirs, else the shipped one.

    OSError when that process may not be looked at or is gone, BadDescriptor and msgspec.MsgspecError for a file that is
    no policy, ConfigError of `load`."""
    folder = f"{proc}/{spawner}/fd"
    for number in os.listdir(folder):
        # It may be closed meanwhile.
        with suppress(FileNotFoundError):
            if os.readlink(f"{folder}/{number}") == f"/memfd:{SEALED_NAME} (deleted)":
                return _read(f"{folder}/{number}")
    return load()


def _read(path: str) -> CompiledPolicy:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return given(descriptor)
    finally:
        os.close(descriptor)
