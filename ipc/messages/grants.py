# SPDX-License-Identifier: Apache-2.0
"""Owns what a grant to the WireServer is: a part of the policy, and of the messages about it."""

from typing import Annotated, Literal

import msgspec

from ipc.messages.base import Cgroup, Message

MOST_GRANTS = 16
MOST_BODY_BYTES = 1 << 20
MOST_TARGET = 2048

Method = Literal["GET", "POST", "PUT", "DELETE", "HEAD"]
# An unreserved character or one that delimits nothing: none of them means anything else to any reader of a path.
Path = Annotated[str, msgspec.Meta(max_length=1024, pattern=r"^(/[A-Za-z0-9_~:.-]+)+/?\Z")]
Query = Annotated[str, msgspec.Meta(max_length=512, pattern=r"^[A-Za-z0-9_~:.=&,-]*\Z")]
Methods = Annotated[tuple[Method, ...], msgspec.Meta(min_length=1, max_length=5)]
Paths = Annotated[tuple[Path, ...], msgspec.Meta(min_length=1, max_length=32)]
Queries = Annotated[tuple[Query, ...], msgspec.Meta(min_length=1, max_length=32)]
# The WireServer's own, and that of the HostGAPlugin beside it.
HostPort = Literal[80, 32526]
BodyBytes = Annotated[int, msgspec.Meta(ge=0, le=MOST_BODY_BYTES)]


class WireRequests(Message, frozen=True):
    """What somebody may ask the WireServer for, as a WireGrant has it."""

    methods: Methods
    paths: Paths
    queries: Queries = ("",)
    body_bytes: BodyBytes = 64 * 1024
    port: HostPort = 80


class WireGrant(Message, frozen=True):
    """What one handler may ask the WireServer for, by way of the supervisor. `cgroup` is where its processes are; empty
    where whoever starts them says so.

    `paths` are exact, or everything below one that ends in "/". `queries` are what may stand behind the path, exactly;
    the empty one is none. `port` 32526 is the HostGAPlugin's."""

    handler: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z")]
    methods: Methods
    paths: Paths
    why: Annotated[str, msgspec.Meta(min_length=10, max_length=1024)]
    cgroup: Cgroup = ""
    queries: Queries = ("",)
    body_bytes: BodyBytes = 64 * 1024
    port: HostPort = 80
