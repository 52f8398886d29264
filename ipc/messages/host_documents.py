# SPDX-License-Identifier: Apache-2.0
"""Owns what the parser answers about the host's documents beyond provisioning; the requests are in parsing.py.

URLs may hold SAS tokens: credentials, for the supervisor alone. No message holds a setting or a key: settings come as
a sealed file beside it.
"""

from typing import Annotated, Literal

import msgspec

from ipc.messages.base import Message, Short

Url = Annotated[str, msgspec.Meta(max_length=4096)]
# SHA-1 over DER, upper case, as Azure names certificates.
Thumbprint = Annotated[str, msgspec.Meta(pattern=r"^([0-9A-F]{40})?\Z")]
# "YYYY-MM-DDTHH:MM:SS.ffffffZ": of equal length, so that they compare as text; the earliest where a document has none.
Created = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z\Z")]
EARLIEST = "0001-01-01T00:00:00.000000Z"
Source = Literal["Fabric", "FastTrack", "UNKNOWN"]
# A frame holds about 150 plugins with six long URLs each; more than this is refused as a whole, and said.
MOST_PLUGINS = 256


class Span(Message, frozen=True):
    """A part of the sealed file that comes with a goal state. A `size` of 0: there is none."""

    start: Annotated[int, msgspec.Meta(ge=0)] = 0
    size: Annotated[int, msgspec.Meta(ge=0)] = 0


NO_SPAN = Span()


class AgentFamily(Message, frozen=True):
    """One family of agent versions on offer. What is None was not said."""

    name: Short
    version: Short
    from_version: Short
    is_version_from_rsm: bool | None
    is_vm_enabled_for_rsm_upgrades: bool | None
    uris: Annotated[tuple[Url, ...], msgspec.Meta(max_length=32)]


class ExtensionSettings(Message, frozen=True):
    """One extension's settings, without the settings. `name` is empty for a handler that has one extension only.

    `state` is enabled or disabled; `thumbprint` names the certificate that the protected settings are for, empty where
    there are none. `file` is the whole settings file for the handler (extensions.md 5). `problem`: why these settings
    can't be used, empty if they can."""

    name: Short
    sequence_number: Annotated[int, msgspec.Meta(ge=0)]
    state: Annotated[str, msgspec.Meta(pattern=r"^(enabled|disabled)\Z")]
    dependency_level: int
    thumbprint: Thumbprint
    problem: Short = ""
    file: Span = NO_SPAN


class Plugin(Message, frozen=True):
    """One handler that the host wants. `state` is as written, in lower case. `signature` is its package's in DER; of
    one that is no base64, the text as it is, which signs nothing. `problem`: why it can't be used: such a handler is
    reported as failed and spoils no other (wire-protocol.md 6)."""

    name: Short
    version: Short
    state: Short
    is_signed: bool
    locations: Annotated[tuple[Url, ...], msgspec.Meta(max_length=32)]
    is_multi_config: bool
    settings: Annotated[tuple[ExtensionSettings, ...], msgspec.Meta(max_length=64)]
    problem: Short = ""
    signature: Span = NO_SPAN


class StatusBlob(Message, frozen=True):
    """Where the status goes. An empty `url`: the host wants none."""

    url: Url
    kind: Annotated[str, msgspec.Meta(pattern=r"^(BlockBlob|PageBlob)\Z")]


class ExtensionsGoalState(Message, frozen=True):
    """What is to run on this VM, by either source. Two descriptors, sealed memfds: the document, redacted; and what the
    spans in here are parts of, settings and signatures, which is for handlers alone.

    `in_svd_sequence_number` is as written, empty where missing. `on_hold` is vmSettings' own word; ExtensionsConfig
    has a blob for it, `profile_url`."""

    source: Source
    created: Created
    in_svd_sequence_number: Short
    activity_id: Short
    correlation_id: Short
    on_hold: bool
    status_blob: StatusBlob
    profile_url: Url
    required_features: Annotated[tuple[Short, ...], msgspec.Meta(max_length=64)]
    families: Annotated[tuple[AgentFamily, ...], msgspec.Meta(max_length=32)]
    plugins: Annotated[tuple[Plugin, ...], msgspec.Meta(max_length=MOST_PLUGINS)]


class VmSettings(Message, frozen=True):
    """hostga-plugin.md 5.5. `plugin_version` is the HostGAPlugin's own. Descriptors as of `goal_state`."""

    plugin_version: Short
    schema_version: Short
    goal_state: ExtensionsGoalState


class CertificateFile(Message, frozen=True):
    """wire-protocol.md 5.2. One descriptor: the DER of the CMS envelope in a sealed memfd, empty without certificates.

    `skipped`: the format, where it is not one that we know."""

    incarnation: Short
    skipped: Short


class HostingEnvironment(Message, frozen=True):
    """wire-protocol.md 4.2; only telemetry wants these names."""

    vm_name: Short
    role_name: Short
    deployment_name: Short


class RemoteUser(Message, frozen=True):
    """wire-protocol.md 8: one account. `password` is base64 of a CMS envelope for the transport certificate;
    `expires_s` is wall time since 1970, None where the text is no such time: `problem` says so."""

    name: Short
    password: Annotated[str, msgspec.Meta(max_length=16384)]
    expires_s: int | None
    problem: Short = ""


class RemoteAccess(Message, frozen=True):
    """wire-protocol.md 8."""

    incarnation: Short
    users: Annotated[tuple[RemoteUser, ...], msgspec.Meta(max_length=64)]


class ArtifactsProfile(Message, frozen=True):
    """wire-protocol.md 7. `problem`: what was wrong with it; then it is not on hold."""

    on_hold: bool
    problem: Short = ""


class InstanceMetadata(Message, frozen=True):
    """wire-protocol.md 14: what telemetry tells of the VM. `image_origin`: 0 unknown, 1 custom, 2 endorsed,
    3 platform. `is_whole`: it has a network interface with an address, as a service in good health tells."""

    location: Short
    subscription_id: Short
    resource_group: Short
    vm_id: Short
    image_origin: Annotated[int, msgspec.Meta(ge=0, le=3)]
    is_whole: bool


class PluginVersions(Message, frozen=True):
    """hostga-plugin.md 2: the versions that the HostGAPlugin speaks."""

    versions: Annotated[tuple[Short, ...], msgspec.Meta(max_length=64)]


class ExtensionEvent(Message, frozen=True):
    """One event as an extension has written it; limits of extensions.md hold, SAS tokens are redacted."""

    version: Short
    timestamp: Short
    task_name: Short
    level: Short
    message: Annotated[str, msgspec.Meta(max_length=3072)]
    pid: Short
    tid: Short
    operation_id: Short


class EventRecord(Message, frozen=True):
    """One event of an old extension: what it may say of itself. SAS tokens are redacted."""

    name: Short
    version: Short
    operation: Short
    succeeded: bool
    message: Annotated[str, msgspec.Meta(max_length=3072)]
    duration_ms: Annotated[int, msgspec.Meta(ge=0)]


class Dropped(Message, frozen=True):
    """So many events of one file were dropped for one reason."""

    reason: Short
    count: int


class ExtensionEvents(Message, frozen=True):
    """The events of one file that may be sent, in its order, and what was dropped. `next`: as many as a frame holds are
    here, ask again from this one on; None when all have been told of."""

    events: Annotated[tuple[ExtensionEvent, ...], msgspec.Meta(max_length=360)]
    dropped: Annotated[tuple[Dropped, ...], msgspec.Meta(max_length=32)]
    next: Annotated[int, msgspec.Meta(ge=1)] | None = None
