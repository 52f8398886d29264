# SPDX-License-Identifier: Apache-2.0
"""Owns what goes to a parser and what comes back: descriptors in, one typed document out."""

from typing import Annotated

import msgspec

from ipc.messages.base import Message, Short
from ipc.secret import Secret


class ParseMedium(Message, frozen=True):
    """Find and parse ovf-env.xml on a medium. One descriptor: the device or image, read-only.

    `reader` is "udf" (own reader) or "iso" (ISO9660, Joliet, Rock Ridge). `size_bytes` is the device's size."""

    reader: Annotated[str, msgspec.Meta(pattern="^(udf|iso)$")]
    size_bytes: int


class ParseOvf(Message, frozen=True):
    """Parse an ovf-env.xml that cloud-init left on disk. One descriptor: a sealed memfd."""


class ParseGoalState(Message, frozen=True):
    """Parse a GoalState document. One descriptor: a sealed memfd."""


class ParseVersions(Message, frozen=True):
    """Parse a Versions document. One descriptor: a sealed memfd."""


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
