# SPDX-License-Identifier: Apache-2.0
"""Owns the messages about those whom the rule in front of the WireServer refuses, or would refuse: who was it?"""

from typing import Annotated

import msgspec

from ipc.messages.base import Message, Short

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class HearRefusals(Message, frozen=True):
    """To the egress committer: open the kernel's log of refused packets (its netlink group is the rule's)."""


class RefusalsHeard(Message, frozen=True):
    """The log is open. One descriptor: the netlink socket that it comes from."""


class NameConnector(Message, frozen=True):
    """To the witness: whose is the TCP socket at `local_port` now? `uid` is what the kernel says it was made under."""

    local_port: Port
    uid: Annotated[int, msgspec.Meta(ge=0)]


class Connector(Message, frozen=True):
    """The process that has it open; `pid` 0 when there is none any more. `name` and `program` (a path, empty for what
    the kernel does not tell) are what the process says of itself: any bytes, made printable. `cgroup` as in /proc."""

    pid: Annotated[int, msgspec.Meta(ge=0)]
    name: Short = ""
    program: Short = ""
    cgroup: Short = ""
