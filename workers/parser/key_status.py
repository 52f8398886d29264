# SPDX-License-Identifier: Apache-2.0
"""Owns the secure channel's key status (secure-channel.md, Endpoints): its bytes to a typed `KeyStatus`.

Runs in the parser. What lacks a field that its version asks for, or has a word that is none, is refused as a whole.
"""

from typing import Any

import msgspec

from ipc.errors import InputError
from ipc.messages import KeyStatus
from workers.parser.json_document import check_scheme, decode, guid, incarnation

# The one state of version 1.0 -> whether the channel is on, and the modes of the WireServer and of IMDS.
STATES = {
    "disabled": (False, "disabled", "disabled"),
    "audit": (True, "audit", "audit"),
    "wireserver": (True, "enforce", "audit"),
    "wireserverandimds": (True, "enforce", "enforce"),
}
MODES = ("disabled", "audit", "enforce")
DELIVERIES = ("http", "vtpm")


class _Access(msgspec.Struct):
    mode: str
    defaultAccess: str  # noqa: N815 - a name of the host's
    id: str | None = None


class _Rules(msgspec.Struct):
    wireserver: _Access | None = None
    imds: _Access | None = None
    hostga: _Access | None = None


class _Document(msgspec.Struct, rename="camel"):
    authorization_scheme: str
    key_delivery_method: str
    version: str
    key_guid: str | None = None
    key_incarnation_id: int | None = None
    required_claims_header_pairs: list[Any] | None = None
    secure_channel_state: str | None = None
    secure_channel_enabled: bool | None = None
    authorization_rules: _Rules | None = None


def parse(document: bytes) -> KeyStatus:
    """Raises InputError that names the field."""
    found = decode(document, _Document)
    check_scheme(found.authorization_scheme)
    delivery = _one_of(DELIVERIES, found.key_delivery_method, "keyDeliveryMethod")
    if found.version == "1.0":
        on, wireserver, imds = _of_state(found.secure_channel_state)
    elif found.version == "2.0":
        on, wireserver, imds = _of_rules(found.secure_channel_enabled, found.authorization_rules or _Rules())
    else:
        raise InputError("version", "is neither 1.0 nor 2.0")
    return KeyStatus(
        version=found.version,  # type: ignore[arg-type] # it is one of the two
        on=on,
        delivery=delivery,  # type: ignore[arg-type] # and so are the words below
        key_guid=None if found.key_guid is None else guid(found.key_guid, "keyGuid"),
        incarnation=incarnation(found.key_incarnation_id, "keyIncarnationId"),
        wireserver=wireserver,  # type: ignore[arg-type]
        imds=imds,  # type: ignore[arg-type]
    )


def _of_state(state: str | None) -> tuple[bool, str, str]:
    if state is None:
        raise InputError("secureChannelState", "is missing, and version 1.0 has it")
    return STATES[_one_of(tuple(STATES), state, "secureChannelState")]


def _of_rules(enabled: bool | None, rules: _Rules) -> tuple[bool, str, str]:
    if enabled is None:
        raise InputError("secureChannelEnabled", "is missing, and version 2.0 has it")
    modes = {name: _mode(getattr(rules, name), name) for name in ("wireserver", "imds", "hostga")}
    return enabled, modes["wireserver"], modes["imds"]


def _mode(access: _Access | None, name: str) -> str:
    if access is None:
        return "disabled"
    _one_of(("allow", "deny"), access.defaultAccess, f"authorizationRules.{name}.defaultAccess")
    return _one_of(MODES, access.mode, f"authorizationRules.{name}.mode")


def _one_of(words: tuple[str, ...], word: str, where: str) -> str:
    """`word` in lower case, which has to be one of `words`; case does not count."""
    lowered = word.lower()
    if lowered not in words:
        raise InputError(where, f"is none of {', '.join(words)}")
    return lowered
