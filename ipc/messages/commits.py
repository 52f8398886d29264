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

    key_type: Annotated[str, msgspec.Meta(pattern="^(rsa|dsa|ecdsa|ed25519|auto)$")]
    staging: Short
    fresh: bool


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
