# SPDX-License-Identifier: Apache-2.0
"""Owns what the policy says of a vendor's extensions: which may be run, how, and within which limits. Data."""

from typing import Annotated, Literal

import msgspec

from ipc.handler_names import LONGEST_NAME, PATTERN
from ipc.messages.base import Message, Name
from ipc.messages.grants import WireRequests

MOST_RULES = 64
HandlerClass = Literal["compat", "contained"]
HandlerVerb = Literal["install", "enable", "update", "disable", "uninstall"]
CapabilityName = Annotated[str, msgspec.Meta(pattern=r"^[a-z_]{3,32}\Z")]
# Publisher.Type, the beginning of such names and a star, or the star alone.
RuleName = Annotated[str, msgspec.Meta(max_length=LONGEST_NAME, pattern=rf"^({PATTERN}|({PATTERN}\.?)?\*)\Z")]
Ports = Annotated[tuple[Annotated[int, msgspec.Meta(ge=1, le=65535)], ...], msgspec.Meta(max_length=32)]
# At most so many services of one handler are limited.
MOST_SERVICES = 16
CapabilityNames = Annotated[tuple[CapabilityName, ...], msgspec.Meta(max_length=64)]


class HandlerLimits(Message, frozen=True):
    """Of the handler's slice, all its commands and what they leave running. None: no limit."""

    cpu_percent: Annotated[int, msgspec.Meta(ge=1, le=100_000)] | None = None
    memory_mib: Annotated[int, msgspec.Meta(ge=1, le=1 << 24)] | None = None
    tasks: Annotated[int, msgspec.Meta(ge=1, le=1 << 22)] | None = None


class ServiceLimits(Message, frozen=True):
    """Of a service that a handler's manifest names, none of ours. None: no limit."""

    name: Annotated[str, msgspec.Meta(pattern=r"^(?!agent-supervisor)[A-Za-z0-9_][A-Za-z0-9_.@:-]{0,199}\.service\Z")]
    cpu_percent: Annotated[int, msgspec.Meta(ge=1, le=100_000)] | None = None


class Outbound(Message, frozen=True):
    """What a contained handler may send to: these ports of every address that `to`, an address or a prefix, names."""

    to: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-fA-F.:]{2,45}(/[0-9]{1,3})?\Z")]
    tcp: Ports = ()
    udp: Ports = ()


class ExtensionTable(Message, frozen=True):
    """One `[[extensions]]` table of an override file. Of several that fit a handler's name, each key counts from the
    most specific one that has it; None: it does not have it.

    `handler_class` is the key "class". `signature_required`: of the package. `denied`: operations that are refused.
    `without`: capabilities taken away beside those that are taken from every handler; `keep`: which of those it is
    left, a loosening. `network`: false takes it away from a contained handler; `outbound`: it has as much of it as that
    names; of the two the most specific rule that has either counts. `wireserver`: what the handler, which has to be
    named whole, may ask that for, a loosening."""

    name: RuleName
    why: Annotated[str, msgspec.Meta(min_length=10, max_length=1024)]
    allowed: bool | None = None
    handler_class: HandlerClass | None = msgspec.field(default=None, name="class")
    signature_required: bool | None = None
    limits: HandlerLimits | None = None
    without: CapabilityNames | None = None
    keep: CapabilityNames | None = None
    denied: tuple[HandlerVerb, ...] | None = None
    network: bool | None = None
    outbound: Annotated[tuple[Outbound, ...], msgspec.Meta(max_length=64)] | None = None
    wireserver: WireRequests | None = None


class ExtensionRule(ExtensionTable, frozen=True, kw_only=True):
    """Such a table, and the override file that it stands in."""

    file: Name
