# SPDX-License-Identifier: Apache-2.0
"""Owns the base of every message and the bounded kinds of text in them; used everywhere, imports nothing of ours."""

from typing import Annotated

import msgspec

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Short = Annotated[str, msgspec.Meta(max_length=1024)]
HandlerVersion = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9}){0,3}\Z")]
# Below the root of the cgroup2 hierarchy, as /proc/PID/cgroup has it, without the slash it begins with.
Cgroup = Annotated[str, msgspec.Meta(max_length=512, pattern=r"^([A-Za-z0-9_.:@\\-]+(/[A-Za-z0-9_.:@\\-]+)*)?\Z")]


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of everything in the catalogue."""
