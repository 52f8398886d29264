# SPDX-License-Identifier: Apache-2.0
"""Owns what the provisioning worker is asked and what it may propose; a proposal changes nothing by itself."""

from typing import Annotated

import msgspec

from ipc.messages.base import Message, Name, Short
from ipc.messages.parsing import Ovf
from ipc.secret import Secret


class AccountFacts(Message, frozen=True):
    """What the supervisor itself read about the account that the OVF names (passwd, login.defs).

    `for_a_person`: it has a shell to log in with, unlike the accounts that daemons run as."""

    exists: bool
    uid: int
    gid: int
    home: Short
    uid_min: int
    for_a_person: bool = True


class ProvisioningOptions(Message, frozen=True):
    """The settings of /etc/waagent.conf that decide what is proposed (config-cli.md 1.2).

    `password_salt` is as long as any salt may be, drawn once for a provisioning: planned again after a restart, the
    hash is the same, and the password isn't set a second time."""

    password_crypt_id: Annotated[str, msgspec.Meta(pattern=r"^(1|2a|5|6)\Z")]
    password_salt_length: Annotated[int, msgspec.Meta(ge=1, le=64)]
    password_salt: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9]{64}\Z")]
    allow_reset_sys_user: bool
    delete_root_password: bool
    decode_custom_data: bool
    home_dir: Short
    ssh_client_alive_interval: Annotated[int, msgspec.Meta(ge=0, le=86400)]


class CertificateKey(Message, frozen=True):
    """Of a certificate that the host has sent: its public key as OpenSSH writes one, without a comment. A private key
    never comes here: `has_private_key` tells whether the supervisor has it."""

    thumbprint: Annotated[str, msgspec.Meta(pattern=r"^[0-9A-F]{40}\Z")]
    public_key: Annotated[str, msgspec.Meta(max_length=16384)]
    has_private_key: bool


class PlanProvisioning(Message, frozen=True):
    """Supervisor to the provisioning worker: propose what this OVF asks for. One descriptor: the custom data.

    `certificates` are those that the OVF names keys by."""

    ovf: Ovf
    options: ProvisioningOptions
    account: AccountFacts
    certificates: Annotated[tuple[CertificateKey, ...], msgspec.Meta(max_length=64)] = ()


class SetHostName(Message, frozen=True):
    """Proposal: /etc/hostname and the kernel's host name."""

    host_name: Name


class CreateAccount(Message, frozen=True):
    """Proposal: a new login account with a home made from /etc/skel. Not sent when the account exists."""

    user_name: Name
    home: Short


class SetPassword(Message, frozen=True):
    """Proposal: the account's password as a crypt(3) hash, made in the worker; the clear text goes no further."""

    user_name: Name
    password_hash: Secret


class GrantSudo(Message, frozen=True):
    """Proposal: one line in the sudoers folder's `waagent` file."""

    user_name: Name
    without_password: bool


class ConfigureSshd(Message, frozen=True):
    """Proposal: password authentication on or off, and the client alive interval."""

    password_authentication: bool
    client_alive_interval_s: Annotated[int, msgspec.Meta(ge=0, le=86400)]


class PlaceKeys(Message, frozen=True):
    """Proposal: public keys, one line each, for one file below the account's home. `path` is relative to `home`."""

    user_name: Name
    home: Short
    path: Short
    keys: Annotated[
        tuple[Annotated[str, msgspec.Meta(max_length=16384)], ...], msgspec.Meta(min_length=1, max_length=256)
    ]


class PlaceKeyPair(Message, frozen=True):
    """Proposal: the key pair of a certificate, the private half to `path` below `home`, the public one beside it. The
    worker has never seen the private half; the supervisor adds it."""

    user_name: Name
    home: Short
    path: Short
    thumbprint: Annotated[str, msgspec.Meta(pattern=r"^[0-9A-F]{40}\Z")]
    public_key: Annotated[str, msgspec.Meta(max_length=16384)]


class StoreCustomData(Message, frozen=True):
    """Proposal: the custom data, decoded if so configured. One descriptor: a sealed memfd."""

    size_bytes: int


class LockRootPassword(Message, frozen=True):
    """Proposal: root can't log in by password."""


class PlanComplete(Message, frozen=True):
    """Worker to supervisor: all proposals were sent; their number, so that none can be lost unseen."""

    proposals: int


class HashPassword(Message, frozen=True):
    """Supervisor to the provisioning worker: hash the password of a JIT account. One descriptor: its text in UTF-8.

    `password_salt` is as long as it is to be."""

    password_crypt_id: Annotated[str, msgspec.Meta(pattern=r"^(1|2a|5|6)\Z")]
    password_salt: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9]{1,64}\Z")]


class PasswordHashed(Message, frozen=True):
    """Worker to supervisor: the hash as crypt(3) makes it; the clear text goes no further."""

    password_hash: Secret
