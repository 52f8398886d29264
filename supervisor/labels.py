# SPDX-License-Identifier: Apache-2.0
"""Owns which paths of a provisioning need the labels of the system's own policy, and has them set (SELinux).

Runs in the supervisor, once everything was written. Without SELinux nothing is started at all. It relabels no path
that neither a committer nor the supervisor writes.
"""

import os
from collections.abc import Iterator, Mapping
from typing import Any

from ipc.messages import (
    CommitAccount,
    CommitHostName,
    CommitKeyPair,
    CommitKeys,
    CommitLabels,
    CommitPassword,
    CommitRootLock,
    CommitSshd,
    CommitSudo,
    InstallHostKeys,
    Message,
)
from supervisor.layout import Layout
from supervisor.steps import Steps

SWITCH = "/sys/fs/selinux/enforce"
STEP, KIND = "labels", "labels"
# Beside each file of the account database its tools keep the one before, with a dash.
ACCOUNT_FILES = tuple(
    f"/etc/{name}{dash}" for name in ("passwd", "shadow", "group", "gshadow", "subuid", "subgid") for dash in ("", "-")
)
AT_A_TIME = 512
# As policy/profiles/labels-programs.toml has them: everywhere else the program that labels can't set any.
LABELLED = ("/etc", "/home", "/srv", "/opt", "/export", "/data", "/var/home", "/var/lib", "/var/log")


class Labels:
    """The paths of one provisioning, gathered from the steps that it took; `root` is where the system lies."""

    def __init__(self, steps: Steps, layout: Layout, root: str = "") -> None:
        self._steps = steps
        self._layout = layout
        self._root = root

    @property
    def are_used(self) -> bool:
        """Whether this kernel labels files by a policy."""
        return os.path.exists(f"{self._root}{SWITCH}")

    async def apply(self, home: str) -> None:
        """Label what the steps and the supervisor wrote, and the account's `home` with what it was given.

        CommitError when that fails: with wrong labels nobody could log in."""
        if not self.are_used:
            return
        every = dict.fromkeys([*self._of_steps(), *ACCOUNT_FILES, *self._our_own()])
        paths = tuple(filter(can_be_labelled, every))
        homes = (home,) if can_be_labelled(home) else ()
        for start in range(0, len(paths), AT_A_TIME):
            number = f" {start // AT_A_TIME + 1}" if start else ""
            order = CommitLabels(paths[start : start + AT_A_TIME], () if start else homes)
            await self._steps.take(f"{STEP}{number}", KIND, order)

    def _of_steps(self) -> Iterator[str]:
        for order, written in tuple(self._steps.taken):
            yield from written
            yield from concerned(order, self._root)

    def _our_own(self) -> Iterator[str]:
        yield self._layout.log
        for folder in (self._layout.lib, self._layout.state, self._layout.credentials):
            yield folder
            yield from (f"{folder}/{name}" for name in _names(f"{self._root}{folder}"))


def can_be_labelled(path: str) -> bool:
    """Whether the policy of the program that labels lets it; what lies elsewhere keeps the labels it was made with."""
    return path.startswith(tuple(f"{folder}/" for folder in LABELLED))


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def concerned(order: Message, root: str = "") -> tuple[str, ...]:
    """The paths that an order may have written, also in a run that was killed before it could say so."""
    find = _CONCERNED.get(type(order))
    return () if find is None else tuple(find(order, root))


def _key_pair(order: CommitKeyPair, root: str) -> Iterator[str]:
    yield from _keys(order, root)
    yield f"{order.home}/{order.path}.pub"


def _keys(order: CommitKeys | CommitKeyPair, _root: str) -> Iterator[str]:
    """Every folder on the way from the home, and the file."""
    path = order.home
    for part in order.path.split("/"):
        path = f"{path}/{part}"
        yield path


def _sudo(order: CommitSudo, _root: str) -> Iterator[str]:
    folder = order.paths.sudoers_dir
    yield from (f"{folder.rpartition('/')[0]}/sudoers", folder, f"{folder}/waagent")


def _sshd(order: CommitSshd, _root: str) -> Iterator[str]:
    folder = order.paths.ssh_dir
    yield from (f"{folder}/sshd_config", f"{folder}/sshd_config.d/50-agent-supervisor.conf")


def _host_keys(order: InstallHostKeys, root: str) -> Iterator[str]:
    names = [name for name in _names(f"{root}{order.ssh_dir}") if name.startswith("ssh_host_") and "key" in name]
    yield from (f"{order.ssh_dir}/{name}" for name in names)


_CONCERNED: Mapping[type[Message], Any] = {
    CommitHostName: lambda *_: ("/etc/hostname",),
    CommitAccount: lambda *_: ACCOUNT_FILES,
    CommitPassword: lambda *_: ACCOUNT_FILES,
    CommitSudo: _sudo,
    CommitSshd: _sshd,
    CommitKeys: _keys,
    CommitKeyPair: _key_pair,
    CommitRootLock: lambda order, _: (order.paths.shadow,),
    InstallHostKeys: _host_keys,
}
