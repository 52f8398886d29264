# SPDX-License-Identifier: Apache-2.0
"""Owns the order in which a child gives everything up: one straight list, each step before the next for a reason.

Runs in the child, between its fork and its first message. It must not continue past a step that failed.
"""

import os
from collections.abc import Callable

import msgspec

from ipc.errors import ConfinementError
from policy.profile import Compiled, Profile
from supervisor.jail import (
    capabilities,
    identity,
    landlock,
    lifeline,
    mdwe,
    mounts,
    namespaces,
    rlimits,
    sealed_tree,
    seccomp,
    syscalls,
)
from supervisor.jail.cgroup import Group
from supervisor.jail.missing import Missing


class Confinement(msgspec.Struct, frozen=True):
    """One child's confinement. `channel_folder` is the host's path of its socket folder; `spawner` a pidfd.

    `missing` are the mechanisms that the spawner found this machine to lack: they alone may be left out."""

    compiled: Compiled
    uid: int
    channel_folder: str
    group: Group
    born_in_group: bool
    spawner: int
    missing: frozenset[str]


def confine(child: Confinement) -> None:
    """Become what the policy says. ConfinementError names the step; then the child must exit."""
    profile = child.compiled.profile
    step = "cgroup"
    try:
        # The limits hold before anything else runs.
        child.group.join(born_in_unified=child.born_in_group)
        step = "namespaces"
        own_folder = namespaces.open_own_process_folder() if "user" in profile.namespaces.new else -1
        namespaces.leave(profile.namespaces.new)
        step = "mounts"
        _arrange_mounts(profile, child.channel_folder)
        step = "resource limits"
        os.umask(0o077)
        rlimits.lower(profile.limits)
        step = "identity"
        identity.take(child.uid, child.uid, profile.capability_names)
        step = "user namespace"
        if own_folder >= 0:
            _if_there(child, lambda: namespaces.be_alone_as(child.uid, child.uid, own_folder))
        step = "capabilities"
        capabilities.limit_to(profile.capability_names)
        step = "parent-death signal"
        # After the last change of credentials, which clears it; then once more look whether the parent died before.
        lifeline.die_with(child.spawner)
        step = "no new privileges"
        capabilities.no_new_privileges()
        capabilities.keep_for_programs(profile.ambient_names)
        step = "landlock"
        if landlock.fits(profile):
            _if_there(child, lambda: landlock.restrict(profile))
        step = "writable code"
        _if_there(child, mdwe.deny_writable_code)
        step = "dumpable"
        capabilities.forbid_dump()
        step = "system calls"
        seccomp.load(child.compiled.startup_filter)
    except OSError as error:
        raise ConfinementError(step, str(error)) from None


def _arrange_mounts(profile: Profile, channel_folder: str) -> None:
    if "mount" in profile.namespaces.new:
        mounts.make_private()
    if profile.view == "own":
        # The folders of the view are for the worker's uid to walk through.
        os.umask(0o022)
        mounts.pivot_into_view(profile.paths, channel_folder)
    if profile.view == "host" and "mount" in profile.namespaces.new:
        sealed_tree.seal(profile.paths)
    mounts.cover(profile.hidden)


def missing_mechanisms() -> frozenset[str]:
    """What this kernel does not give, named as in ipc.records.MECHANISMS; found by trying, in the spawner."""
    missing = set(landlock.missing(landlock.version()))
    if not _survives(mdwe.deny_writable_code):
        missing.add("mdwe")
    if not _survives(lambda: syscalls.unshare(namespaces.NEWUSER)):
        missing.add("user-namespace")
    return frozenset(missing)


def _survives(attempt: Callable[[], None]) -> bool:
    """Whether `attempt` works, tried in a process of its own, since it can't be taken back."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            attempt()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1] == 0


def _if_there(child: Confinement, mechanism: Callable[[], object]) -> None:
    """Use `mechanism`; only one that the spawner has found missing before may be missing now."""
    try:
        mechanism()
    except Missing as missing:
        if missing.mechanism not in child.missing:
            raise
