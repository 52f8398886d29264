# SPDX-License-Identifier: Apache-2.0
"""Owns what the parser is asked, with one sealed memfd each, and its answers about the documents of provisioning.

All other answers have modules of their own, which the parser loads with the reader that makes them.
"""

from typing import Annotated

import msgspec

from ipc.messages.base import HandlerVersion, Message, Short
from ipc.secret import Secret


class ParseMedium(Message, frozen=True):
    """Find and parse ovf-env.xml on a medium. One descriptor: the device or image, read-only.

    `reader` is "udf" (own reader) or "iso" (ISO9660, Joliet, Rock Ridge). `size_bytes` is the device's size."""

    reader: Annotated[str, msgspec.Meta(pattern=r"^(udf|iso)\Z")]
    size_bytes: int


class ParseOvf(Message, frozen=True):
    """Parse an ovf-env.xml that cloud-init left on disk."""


class ParseGoalState(Message, frozen=True):
    """Parse a GoalState document."""


class ParseVersions(Message, frozen=True):
    """Parse a Versions document."""


class ParseKeyStatus(Message, frozen=True):
    """Parse the status of the host's secure channel. The answer is KeyStatus."""


class ParseChannelKey(Message, frozen=True):
    """Parse that channel's key. The answer is ChannelKey."""


class ParseExtensionsConfig(Message, frozen=True):
    """An ExtensionsConfig (wire-protocol.md 6). The answer is ExtensionsGoalState with one descriptor."""


class ParseVmSettings(Message, frozen=True):
    """A vmSettings document (hostga-plugin.md 5.5). The answer is VmSettings with one descriptor."""


class ParseCertificateFile(Message, frozen=True):
    """A Certificates reply (wire-protocol.md 5.2). The answer is CertificateFile with one descriptor."""


class ParseHostingEnvironment(Message, frozen=True):
    """A HostingEnvironmentConfig (wire-protocol.md 4.2). The answer is HostingEnvironment."""


class ParseRemoteAccess(Message, frozen=True):
    """A RemoteAccess document (wire-protocol.md 8). The answer is RemoteAccess."""


class ParseArtifactsProfile(Message, frozen=True):
    """An InVMArtifactsProfile (wire-protocol.md 7). The answer is ArtifactsProfile."""


class ParseInstanceMetadata(Message, frozen=True):
    """The reply of the instance metadata service (wire-protocol.md 14). The answer is InstanceMetadata."""


class ParsePluginVersions(Message, frozen=True):
    """The HostGAPlugin's /versions (hostga-plugin.md 2). The answer is PluginVersions."""


class ParseEventFile(Message, frozen=True):
    """A file of events that an extension has left (extensions.md, telemetry). The answer is ExtensionEvents.

    `first` is where to go on, by number, in a file of which an answer has told a part."""

    first: Annotated[int, msgspec.Meta(ge=0)] = 0


class ParseEventRecord(Message, frozen=True):
    """One event in the form that old extensions leave (wire-protocol.md 11). The answer is EventRecord."""


class ParsePackageManifest(Message, frozen=True):
    """A handler's manifest in storage (extensions.md 6). The answer is PackageChoice for the wanted `version`."""

    version: HandlerVersion


class ParseHandlerManifest(Message, frozen=True):
    """A HandlerManifest.json (extensions.md 5). The answer is HandlerManifest."""


class ParseStatusFile(Message, frozen=True):
    """A status file of an extension (extensions.md 9). The answer is ExtensionStatus."""


class ParseHeartbeat(Message, frozen=True):
    """A handler's heartbeat file (extensions.md 9). The answer is Heartbeat."""


class ParseExtensionPolicy(Message, frozen=True):
    """waagent's policy file (extensions.md 4.1). The answer is ExtensionPolicyFile."""


class PublicKey(Message, frozen=True):
    """provisioning.md 5: an SSH public key to place. `value` empty means that only the thumbprint is known."""

    path: Short
    fingerprint: Short
    value: Annotated[str, msgspec.Meta(max_length=16384)]


class KeyPair(Message, frozen=True):
    """provisioning.md 5: an SSH key pair named by certificate thumbprint."""

    path: Short
    fingerprint: Short


class Ovf(Message, frozen=True):
    """provisioning.md 5, typed. Two descriptors, both sealed memfds: the custom data as it stood in the document
    (empty if none), and the document with the password replaced by `*`."""

    version: Short
    host_name: Short
    user_name: Short
    password: Secret | None
    disable_ssh_password_authentication: bool
    public_keys: Annotated[tuple[PublicKey, ...], msgspec.Meta(max_length=256)]
    key_pairs: Annotated[tuple[KeyPair, ...], msgspec.Meta(max_length=256)]
    provision_guest_agent: bool
    has_custom_data: bool
    warnings: Annotated[tuple[Short, ...], msgspec.Meta(max_length=16)] = ()


class RoleInstance(Message, frozen=True):
    """wire-protocol.md 4: one role instance of a goal state. URLs are empty where the document has none."""

    instance_id: Short
    config_name: Short
    hosting_environment_url: Annotated[str, msgspec.Meta(max_length=4096)]
    shared_config_url: Annotated[str, msgspec.Meta(max_length=4096)]
    extensions_config_url: Annotated[str, msgspec.Meta(max_length=4096)]
    certificates_url: Annotated[str, msgspec.Meta(max_length=4096)]


class GoalState(Message, frozen=True):
    """wire-protocol.md 4. `role_instance` is None while the host has not assigned one yet: ask again."""

    incarnation: Short
    container_id: Short
    remote_access_url: Annotated[str, msgspec.Meta(max_length=4096)]
    role_instance: RoleInstance | None


class Versions(Message, frozen=True):
    """wire-protocol.md 3: protocol versions that the host prefers and supports."""

    preferred: Short
    supported: Annotated[tuple[Short, ...], msgspec.Meta(max_length=256)]
