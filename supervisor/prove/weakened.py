# SPDX-License-Identifier: Apache-2.0
"""Owns a worker's confinement with controls left out, for `prove --without` alone: the steps of
supervisor/jail/confine.py in the same order, taken one by one.

A list of its own on purpose: nothing that starts real workers can leave out a step. A test holds the two equal. It
must never run outside throw-away namespaces (supervisor/prove/throwaway.py).
"""

import os
import socket
from collections.abc import Callable, Iterator

import msgspec

from ipc import pair
from ipc.channel import Channel, PacketChannel
from policy import capability
from policy.profile import Profile
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
)
from supervisor.jail.cgroup import Group
from supervisor.jail.confine import Confinement
from supervisor.jail.control_files import read
from supervisor.jail.missing import Missing
from supervisor.prove import within
from supervisor.prove.starting import Begin, forked
from supervisor.spawner.child import CHANNEL_SOCKET, LOG, SIDE, SPAWNER, Birth
from supervisor.spawner.process import Process

Without = frozenset[str]
Step = tuple[str, Callable[[], object]]
_VIEW = frozenset({"view", "mount-namespace"})


def worker(birth: Birth, without: Without) -> Begin:
    """As starting.worker, but for the controls in `without`. What starts by exec is forked."""

    def begin() -> Process:
        group = Group((), ()) if "cgroup" in without else birth.group
        own = namespaces.own_pid_namespace()
        new_pid_namespace = "pid" in birth.compiled.profile.namespaces.new and "pid-namespace" not in without
        if new_pid_namespace:
            namespaces.enter_new_pid_namespace()
        try:
            return forked(group, {SIDE: birth.side, LOG: birth.log}, lambda born: _become(birth, without, group, born))
        finally:
            if new_pid_namespace:
                namespaces.return_to_pid_namespace(own)

    return begin


def _become(birth: Birth, without: Without, group: Group, born: bool) -> None:
    if "environment" not in without:
        os.environ.clear()
    confinement = Confinement(birth.compiled, birth.uid, birth.channel_folder, group, born, SPAWNER, birth.missing)
    take_steps(confinement, without)
    locked = birth.compiled.locked_filter
    path = f"{birth.channel_folder}/s" if without & _VIEW else CHANNEL_SOCKET
    channel = _channel(birth.compiled.profile.transport, path)
    within.main(channel, lambda: None if "seccomp" in without else seccomp.load(locked, all_threads=True))


def take_steps(child: Confinement, without: Without) -> None:
    """Become what the policy says, but for `without`; Missing and OSError as of confine."""
    profile = weaker(child.compiled.profile, without)
    uid = 0 if "uid" in without else child.uid
    for control, step in _steps(child, profile, uid, without):
        if control not in without:
            step()


def weaker(profile: Profile, without: Without) -> Profile:
    """The profile without the namespaces that are left out; without a mount namespace there is no view either."""
    new = tuple(name for name in profile.namespaces.new if f"{name}-namespace" not in without)
    return msgspec.structs.replace(profile, namespaces=msgspec.structs.replace(profile.namespaces, new=new))


def _steps(child: Confinement, profile: Profile, uid: int, without: Without) -> Iterator[Step]:
    """(the control that it is, the step) in confine()'s order; those without a name are none by themselves."""
    keep = _all_capabilities() if "capabilities" in without else profile.capability_names
    yield "cgroup", lambda: child.group.join(born_in_unified=child.born_in_group)
    own_folder = namespaces.open_own_process_folder() if "user" in profile.namespaces.new else -1
    yield "", lambda: namespaces.leave(profile.namespaces.new)
    yield "", lambda: _arrange_mounts(profile, child.channel_folder, shown=not without & _VIEW)
    yield "rlimits", lambda: rlimits.lower(profile.limits)
    yield "", lambda: identity.take(uid, uid, keep)
    if own_folder >= 0:
        yield "user-namespace", lambda: _if_there(child, lambda: namespaces.be_alone_as(uid, uid, own_folder))
    yield "capabilities", lambda: capabilities.limit_to(profile.capability_names)
    yield "parent-death", lambda: lifeline.die_with(child.spawner)
    yield "no-new-privileges", capabilities.no_new_privileges
    yield "capabilities", lambda: capabilities.keep_for_programs(profile.ambient_names)
    if landlock.fits(profile):
        yield "landlock", lambda: _if_there(child, lambda: landlock.restrict(profile))
    yield "mdwe", lambda: _if_there(child, mdwe.deny_writable_code)
    yield "dumpable", capabilities.forbid_dump
    yield "seccomp", lambda: seccomp.load(child.compiled.startup_filter)


def _arrange_mounts(profile: Profile, channel_folder: str, *, shown: bool) -> None:
    if "mount" in profile.namespaces.new:
        mounts.make_private()
    if profile.view == "own" and shown:
        os.umask(0o022)
        mounts.pivot_into_view(profile.paths, channel_folder)
    if profile.view == "host" and "mount" in profile.namespaces.new and shown:
        sealed_tree.seal(profile.paths)
    if shown:
        mounts.cover(profile.hidden)
    os.umask(0o077)


def _if_there(child: Confinement, mechanism: Callable[[], object]) -> None:
    try:
        mechanism()
    except Missing as missing:
        if missing.mechanism not in child.missing:
            raise


def _all_capabilities() -> frozenset[str]:
    """All that this process has to give up."""
    lines = dict(line.split(":\t") for line in read("/proc/self/status").splitlines() if ":\t" in line)
    return frozenset(capability.names(int(lines["CapPrm"], 16)))


def _channel(transport: str, path: str) -> Channel:
    side = socket.socket(fileno=SIDE)
    return PacketChannel(side) if transport == "packet" else pair.connect(pair.context(), path, side)
