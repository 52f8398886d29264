# SPDX-License-Identifier: Apache-2.0
"""Owns what the parser answers about the host's secure channel: its status and its key."""

from typing import Annotated, Literal

import msgspec

from ipc.messages.base import Message
from ipc.secret import Secret

Guid = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\Z")]
ChannelMode = Literal["disabled", "audit", "enforce"]
Incarnation = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class KeyStatus(Message, frozen=True):
    """secure-channel.md, Endpoints: how the channel stands. `key_guid` is None while no key is latched.

    The modes of version 1.0 follow from its one state; the HostGAPlugin's are always those of the WireServer."""

    version: Literal["1.0", "2.0"]
    on: bool
    delivery: Literal["http", "vtpm"]
    key_guid: Guid | None = None
    incarnation: Incarnation | None = None
    wireserver: ChannelMode = "disabled"
    imds: ChannelMode = "disabled"


class ChannelKey(Message, frozen=True):
    """A key that the host has made for this VM: 64 hex digits. It counts once it is attested. `issued`: ISO 8601."""

    guid: Guid
    key: Secret
    issued: Annotated[str, msgspec.Meta(max_length=64)]
    incarnation: Incarnation | None = None
