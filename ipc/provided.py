# SPDX-License-Identifier: Apache-2.0
"""Owns what a worker's module may be handed before its confinement, by the spawner that it was forked from.

A module that needs some of it has `prepare(provided)`, which returns its main function; it must not act yet.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ipc.channel import Channel

Main = Callable[[Channel, Callable[[], None]], None]
# (folder's descriptor, one name in it, flags, mode) -> descriptor. Never through a link, never out of the folder.
OpenBeneath = Callable[[int, str, int, int], int]


class Provided(msgspec.Struct, frozen=True):
    """`policies` are the spawner's (kind -> policy.profile.Compiled); `open_beneath` is openat2 where there is one."""

    policies: Mapping[str, Any]
    open_beneath: OpenBeneath
