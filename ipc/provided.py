# SPDX-License-Identifier: Apache-2.0
"""Owns what a worker's module may be handed before its confinement, by the spawner that it was forked from.

A module that needs some of it has `prepare(provided)`, which returns its main function; it must not act yet.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ipc.channel import Channel
from ipc.messages import WireGrant

Main = Callable[[Channel, Callable[[], None]], None]
# (folder's descriptor, one name in it, flags, mode) -> descriptor. Never through a link, never out of the folder.
OpenBeneath = Callable[[int, str, int, int], int]
# (cgroup folder's descriptor, meant for, sent to) -> two descriptors that keep it so.
AttachRedirect = Callable[[int, tuple[str, int], tuple[str, int]], tuple[int, int]]


# The descriptor by which a worker that has a companion (`programs` in its policy) speaks to it.
PROGRAMS = 6


def _nothing() -> AttachRedirect:
    raise LookupError("this process is given no way to redirect connections")


class Provided(msgspec.Struct, frozen=True):
    """`policies` are the spawner's (kind -> policy.profile.Compiled), `kind` is the process's own; `open_beneath` is
    openat2 where there is one. `redirecting` loads what attaches programs to a cgroup; `grants` are the policy's."""

    policies: Mapping[str, Any]
    open_beneath: OpenBeneath
    kind: str = ""
    redirecting: Callable[[], AttachRedirect] = _nothing
    grants: tuple[WireGrant, ...] = ()
