# SPDX-License-Identifier: Apache-2.0
"""Owns every message that crosses a process boundary, as frozen structs; imported everywhere, imports nothing of ours.

Requests are imperative (`CreateAccount`), answers are nouns or past (`Committed`). Units stand in the names.
A class that is not in CATALOGUE can't be sent. Limits on text are those of the codec unless a field says less.
"""

from typing import Annotated

import msgspec

from ipc.secret import Secret

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Text = Annotated[str, msgspec.Meta(max_length=8192)]
Short = Annotated[str, msgspec.Meta(max_length=1024)]


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of everything in the catalogue."""


# --- life of a worker -------------------------------------------------------------------------------------------


class WorkerReady(Message, frozen=True):
    """Worker to supervisor, first message: confined, connected, waiting for work. Believed only after verification."""


class Stop(Message, frozen=True):
    """Supervisor to worker: end now; nothing more is wanted."""


class Ping(Message, frozen=True):
    """Supervisor to a resident worker: answer with the same number within the policy's liveness time."""

    number: int


class Pong(Message, frozen=True):
    """Answer to `Ping`."""

    number: int


class InputRefused(Message, frozen=True):
    """Worker to supervisor: the bytes handed over are unusable. `where` names element, block or line."""

    where: Short
    problem: Short


# --- parsers ----------------------------------------------------------------------------------------------------


class ParseMedium(Message, frozen=True):
    """Find and parse ovf-env.xml on a medium. One descriptor: the device or image, read-only.

    `reader` is "udf" (own reader) or "iso" (ISO9660, Joliet, Rock Ridge). `size_bytes` is the device's size."""

    reader: Annotated[str, msgspec.Meta(pattern="^(udf|iso)$")]
    size_bytes: int


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


# --- provisioning -----------------------------------------------------------------------------------------------


class AccountFacts(Message, frozen=True):
    """What the supervisor itself read about the account that the OVF names (passwd, login.defs)."""

    exists: bool
    uid: int
    gid: int
    home: Short
    uid_min: int


class ProvisioningOptions(Message, frozen=True):
    """The settings of /etc/waagent.conf that decide what is proposed (config-cli.md 1.2)."""

    password_crypt_id: Annotated[str, msgspec.Meta(pattern="^(1|2a|5|6)$")]
    password_salt_length: Annotated[int, msgspec.Meta(ge=1, le=64)]
    allow_reset_sys_user: bool
    delete_root_password: bool
    decode_custom_data: bool
    home_dir: Short
    ssh_client_alive_interval: Annotated[int, msgspec.Meta(ge=0, le=86400)]


class PlanProvisioning(Message, frozen=True):
    """Supervisor to the provisioning worker: propose what this OVF asks for. One descriptor: the custom data."""

    ovf: Ovf
    options: ProvisioningOptions
    account: AccountFacts


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


class StoreCustomData(Message, frozen=True):
    """Proposal: the custom data, decoded if so configured. One descriptor: a sealed memfd."""

    size_bytes: int


class LockRootPassword(Message, frozen=True):
    """Proposal: root can't log in by password."""


class PlanComplete(Message, frozen=True):
    """Worker to supervisor: all proposals were sent; their number, so that none can be lost unseen."""

    proposals: int


# --- committers -------------------------------------------------------------------------------------------------


class FileChange(Message, frozen=True):
    """A path that a committer wrote, as the kernel shows it afterwards. `mode` has the permission bits only."""

    path: Short
    mode: int
    uid: int
    gid: int


class MakeHostKeys(Message, frozen=True):
    """Make SSH host keys of `key_type` in an own new folder `staging` (absolute); nothing else is touched."""

    key_type: Annotated[str, msgspec.Meta(pattern="^(rsa|dsa|ecdsa|ed25519|auto)$")]
    staging: Short


class InstallHostKeys(Message, frozen=True):
    """Replace `<ssh_dir>/ssh_host_*key*` by the keys in `staging`, by rename; then have a running sshd re-read them."""

    staging: Short
    ssh_dir: Short


class CommitPaths(Message, frozen=True):
    """Where the system keeps what account committers edit: from the configuration, never from a worker."""

    sudoers_dir: Short = "/etc/sudoers.d"
    ssh_dir: Short = "/etc/ssh"
    shadow: Short = "/etc/shadow"
    home_dir: Short = "/home"


class CommitHostName(Message, frozen=True):
    """To the hostname committer."""

    host_name: Name


class CommitAccount(Message, frozen=True):
    """To the account committer: run useradd, then compare passwd, group, shadow with the proposal."""

    user_name: Name
    home: Short
    uid_min: int


class CommitPassword(Message, frozen=True):
    """To the password committer: chpasswd with the hash on its standard input, then compare."""

    user_name: Name
    password_hash: Secret


class CommitSudo(Message, frozen=True):
    """To the sudoers committer: one file, validated before it takes effect."""

    user_name: Name
    without_password: bool
    paths: CommitPaths


class CommitSshd(Message, frozen=True):
    """To the sshd committer."""

    password_authentication: bool
    client_alive_interval_s: int
    paths: CommitPaths


class CommitKeys(Message, frozen=True):
    """To the home committer, which takes the account's uid and gid for good before it touches the home."""

    uid: Annotated[int, msgspec.Meta(ge=1)]
    gid: Annotated[int, msgspec.Meta(ge=1)]
    home: Short
    path: Short
    keys: Annotated[
        tuple[Annotated[str, msgspec.Meta(max_length=16384)], ...], msgspec.Meta(min_length=1, max_length=256)
    ]


class CommitRootLock(Message, frozen=True):
    """To the root-lock committer: root's field in the shadow file becomes unusable."""

    paths: CommitPaths


class Committed(Message, frozen=True):
    """Committer to supervisor: done and compared. `fact` is one line for the log, such as a key's fingerprint."""

    changes: Annotated[tuple[FileChange, ...], msgspec.Meta(max_length=64)]
    fact: Short = ""


class CommitFailed(Message, frozen=True):
    """Committer to supervisor: `problem` for the log and the host; `changed` tells whether something was written."""

    problem: Short
    changed: bool


# --- verifier, vault --------------------------------------------------------------------------------------------


class VerifyWorker(Message, frozen=True):
    """To the verifier: compare the kernel's view of process `pid`, all its threads, with the policy of `kind`.

    One descriptor: the worker's pidfd, so that the answer can't be about a successor of that pid. `missing` are the
    mechanisms that the spawner said this machine lacks."""

    kind: Name
    pid: int
    uid: int
    missing: Annotated[tuple[Name, ...], msgspec.Meta(max_length=16)]


class Verification(Message, frozen=True):
    """From the verifier: empty `mismatches` means that all is as the policy says."""

    mismatches: Annotated[tuple[Short, ...], msgspec.Meta(max_length=64)]
    threads: int


class MakeTransportKey(Message, frozen=True):
    """To the vault: RSA-2048 and a self-signed certificate CN=LinuxTransport, valid `days` (wire-protocol.md 5.1)."""

    days: int


class TransportKey(Message, frozen=True):
    """From the vault, PEM text."""

    private_key: Secret
    certificate: Annotated[str, msgspec.Meta(max_length=8192)]


CATALOGUE: tuple[type[Message], ...] = (
    WorkerReady,
    Stop,
    Ping,
    Pong,
    InputRefused,
    ParseMedium,
    ParseGoalState,
    ParseVersions,
    Ovf,
    GoalState,
    Versions,
    PlanProvisioning,
    SetHostName,
    CreateAccount,
    SetPassword,
    GrantSudo,
    ConfigureSshd,
    PlaceKeys,
    StoreCustomData,
    LockRootPassword,
    PlanComplete,
    MakeHostKeys,
    InstallHostKeys,
    CommitHostName,
    CommitAccount,
    CommitPassword,
    CommitSudo,
    CommitSshd,
    CommitKeys,
    CommitRootLock,
    Committed,
    CommitFailed,
    VerifyWorker,
    Verification,
    MakeTransportKey,
    TransportKey,
)
BY_NAME: dict[str, type[Message]] = {message.__name__: message for message in CATALOGUE}
