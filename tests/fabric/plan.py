# SPDX-License-Identifier: Apache-2.0
"""Owns the description of what a goal state wants of a VM: extensions, their settings, accounts, features, blobs.

Runs in test processes. A test writes it, mostly as JSON; what it leaves out the host fills in when it publishes.
"""

import json
from base64 import b64encode
from typing import Any, Protocol

import msgspec

# How one plugin's entry can be broken (wire-protocol.md 6): it spoils that plugin alone.
BREAKAGES = (
    "",
    "no-sequence",
    "two-runtime-settings",
    "two-settings-nodes",
    "version-mismatch",
    "both-kinds",
    "bad-json",
    "empty-state",
    "two-dependencies",
)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One extension's settings. `protected` are sealed for the tenant's certificate number `certificate`, which makes
    `sealed` and `thumbprint`; either may be given as well, to say something wrong. `level` None: no dependency."""

    name: str = ""
    sequence: int = 0
    state: str = "enabled"
    public: dict[str, Any] | None = None
    protected: dict[str, Any] | None = None
    certificate: int = 0
    sealed: str = ""
    thumbprint: str = ""
    level: int | None = None

    def handler_settings(self) -> dict[str, Any]:
        """What stands below handlerSettings."""
        told: dict[str, Any] = {"publicSettings": self.public}
        if self.sealed:
            told |= {"protectedSettings": self.sealed, "protectedSettingsCertThumbprint": self.thumbprint}
        return told


class Plugin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One handler. `locations`: where its manifest is (location, failover, additional ones); `is_multi`: its settings
    are several extensions; `broken`: one of BREAKAGES."""

    name: str
    version: str = "1.0.0"
    state: str = "enabled"
    locations: tuple[str, ...] = ()
    signature: str = ""
    settings: tuple[Settings, ...] = ()
    is_multi: bool = False
    broken: str = ""


class Family(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Versions of the agent on offer. What is None is not said."""

    name: str
    uris: tuple[str, ...] = ()
    version: str | None = None
    from_version: str | None = None
    is_from_rsm: bool | None = None
    is_enabled_for_rsm: bool | None = None


class User(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One account of RemoteAccess. `sealed` may say something else than the password's envelope."""

    name: str
    password: str = ""
    expires: str = "Tue, 01 Jan 2047 00:00:00 UTC"
    sealed: str = ""


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All of it. `users` None: the goal state names no RemoteAccess. `status_blob` None: the host's own, "" none;
    `profile` is what the artifacts profile says, None for no such blob; `sequence` None: the incarnation; `created`
    in seconds since 1970, None for now."""

    plugins: tuple[Plugin, ...] = ()
    families: tuple[Family, ...] = ()
    features: tuple[str, ...] = ()
    users: tuple[User, ...] | None = None
    status_blob: str | None = None
    blob_kind: str = "BlockBlob"
    profile: dict[str, Any] | None = None
    profile_blob: str = ""
    on_hold: bool = False
    sequence: int | None = None
    created: float | None = None


class Places(Protocol):
    """Where the host keeps blobs; each is a URL with a signature."""

    def status_blob(self) -> str: ...

    def manifest(self, plugin: str) -> str: ...

    def profile(self, content: bytes) -> str: ...


class Sealer(Protocol):
    """Who seals protected settings: their envelope and the thumbprint that it is for."""

    def seal(self, content: bytes, number: int) -> tuple[bytes, str]: ...


def read_plan(text: str) -> Plan:
    """The plan written as JSON. Raises ValueError with what is wrong."""
    try:
        plan = msgspec.json.decode(text, type=Plan)
    except msgspec.MsgspecError as error:
        raise ValueError(f"not a plan: {error}") from None
    for plugin in plan.plugins:
        if plugin.broken not in BREAKAGES:
            raise ValueError(f"{plugin.broken!r} is none of {', '.join(BREAKAGES)}")
    return plan


def settled(plan: Plan, places: Places, sealer: Sealer, now: float) -> Plan:
    """The plan with everything in it that the host fills in. Raises ValueError for settings that nothing can seal."""
    profile = plan.profile_blob
    if plan.profile is not None and not profile:
        profile = places.profile(json.dumps(plan.profile).encode())
    return msgspec.structs.replace(
        plan,
        plugins=tuple(_settled_plugin(plugin, places, sealer) for plugin in plan.plugins),
        status_blob=places.status_blob() if plan.status_blob is None else plan.status_blob,
        profile_blob=profile,
        created=now if plan.created is None else plan.created,
    )


def _settled_plugin(plugin: Plugin, places: Places, sealer: Sealer) -> Plugin:
    settings = tuple(_settled_settings(one, sealer) for one in plugin.settings)
    locations = plugin.locations or (places.manifest(plugin.name),)
    return msgspec.structs.replace(plugin, settings=settings, locations=locations)


def _settled_settings(settings: Settings, sealer: Sealer) -> Settings:
    if settings.protected is None or settings.sealed:
        return settings
    sealed, thumbprint = sealer.seal(json.dumps(settings.protected).encode(), settings.certificate)
    told = b64encode(sealed).decode()
    return msgspec.structs.replace(settings, sealed=told, thumbprint=settings.thumbprint or thumbprint)
