# SPDX-License-Identifier: Apache-2.0
"""Owns the orders of the committers, one privileged act each, and their two answers."""

from typing import Annotated

import msgspec

from ipc.messages.base import Message, Name, Short
from ipc.secret import Secret


class FileChange(Message, frozen=True):
    """A path that a committer wrote, as the kernel shows it afterwards. `mode` has the permission bits only."""

    path: Short
    mode: int
    uid: int
    gid: int


class MakeHostKeys(Message, frozen=True):
    """Make SSH host keys of `key_type` in an own new folder `staging` (absolute); nothing else is touched.

    `fresh`: whatever is in that folder came with the image, and goes. Else a complete folder is our own of a run that
    was cut short, and stays."""

    key_type: Annotated[str, msgspec.Meta(pattern=r"^(rsa|dsa|ecdsa|ed25519|auto)\Z")]
    staging: Short
    fresh: bool


class InstallHostKeys(Message, frozen=True):
    """Replace `<ssh_dir>/ssh_host_*key*` by the keys in `staging`, by rename; then have a running sshd re-read them."""

    staging: Short
    ssh_dir: Short


class ReadHostKeys(Message, frozen=True):
    """Answer with the public halves of the host keys in `ssh_dir`; nothing is changed."""

    ssh_dir: Short


class HostKey(Message, frozen=True):
    """The public half of an SSH host key. `sha256` is the fingerprint in base64, `public` the line of its .pub file."""

    algorithm: Annotated[str, msgspec.Meta(pattern=r"^(rsa|dsa|ecdsa|ed25519)\Z")]
    bits: Annotated[int, msgspec.Meta(ge=1)]
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9+/]{43}\Z")]
    public: Annotated[str, msgspec.Meta(max_length=4096)]


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
    """To the account committer: run useradd, then compare passwd, group, shadow with the proposal.

    `comment` is the GECOS field; `expires` a day, YYYY-MM-DD, from which on nobody can log in;
    empty: none. The committer judges both before anything is run."""

    user_name: Name
    home: Short
    uid_min: int
    comment: Annotated[str, msgspec.Meta(max_length=255)] = ""
    expires: Annotated[str, msgspec.Meta(max_length=10)] = ""


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


class CommitSshdReload(Message, frozen=True):
    """To the sshd-reload committer: a running sshd reads its keys and settings anew."""


class CommitKeys(Message, frozen=True):
    """To the home committer, which takes the account's uid and gid for good before it touches the home."""

    uid: Annotated[int, msgspec.Meta(ge=1)]
    gid: Annotated[int, msgspec.Meta(ge=1)]
    home: Short
    path: Short
    keys: Annotated[
        tuple[Annotated[str, msgspec.Meta(max_length=16384)], ...], msgspec.Meta(min_length=1, max_length=256)
    ]


class CommitKeyPair(Message, frozen=True):
    """To the home committer, as CommitKeys: `public_key` goes to `path`.pub, and to `path` what the one descriptor
    holds, a sealed memfd: the private key in PEM."""

    uid: Annotated[int, msgspec.Meta(ge=1)]
    gid: Annotated[int, msgspec.Meta(ge=1)]
    home: Short
    path: Short
    public_key: Annotated[str, msgspec.Meta(max_length=16384)]


class CommitLabels(Message, frozen=True):
    """To the labels committer: the labels that the system's own policy has for these paths (SELinux).

    `paths` that are not there are passed over. A folder in `homes` stands for itself and for what a home is given."""

    paths: Annotated[tuple[Short, ...], msgspec.Meta(max_length=512)]
    homes: Annotated[tuple[Short, ...], msgspec.Meta(max_length=16)] = ()


class CommitRootLock(Message, frozen=True):
    """To the root-lock committer: root's field in the shadow file becomes unusable."""

    paths: CommitPaths


class CommitCustomData(Message, frozen=True):
    """To a custom-data committer: run the program at `path` (absolute), once in this machine's life, and hear it out.

    `with_shell`: by /bin/sh, for it names no interpreter. It is ended after `timeout_s`. `hidden` are our own folders,
    which it is not to see. One descriptor: the record of how far the one run has come, open for reading and writing."""

    path: Short
    with_shell: bool
    timeout_s: Annotated[int, msgspec.Meta(ge=1, le=86400)]
    hidden: Annotated[tuple[Short, ...], msgspec.Meta(max_length=8)]


class ClearFormerVm(Message, frozen=True):
    """To the former-vm committer: remove what the VM that this disk was in before left outside our own folders.

    `vm` is what this VM is called; each VM's clean-up is an order of its own."""

    vm: Name


class Aside(Message, frozen=True):
    """What is left of the handler's folder `folder` beside it, out of sight, because some of it can't go: `why`."""

    folder: Short
    why: Annotated[str, msgspec.Meta(max_length=512)]


class Committed(Message, frozen=True):
    """Committer to supervisor: done and compared. `fact` is one line for the log; `host_keys` by theirs, `aside`
    by that of handlers' folders: all that stays, as far as there is room."""

    changes: Annotated[tuple[FileChange, ...], msgspec.Meta(max_length=64)]
    fact: Short = ""
    host_keys: Annotated[tuple[HostKey, ...], msgspec.Meta(max_length=8)] = ()
    aside: Annotated[tuple[Aside, ...], msgspec.Meta(max_length=16)] = ()


class CommitFailed(Message, frozen=True):
    """Committer to supervisor: `problem` for the log and the host; `changed` tells whether something was written.

    `paths` are the first of those that are known to have been, beside what the problem itself names."""

    problem: Short
    changed: bool
    paths: Annotated[tuple[Short, ...], msgspec.Meta(max_length=16)] = ()
