# SPDX-License-Identifier: Apache-2.0
"""Owns one lane of `prove`: a stage, its decoys, and one attack after the other, each in its confinement and bare.

Runs in a fork of the command, as root, in namespaces and cgroups of its own. It touches no live process of the agent.
"""

import gc
import os
import resource
from collections.abc import Iterable, Mapping
from importlib import import_module

import msgspec

from policy.profile import WORKER_UIDS, Compiled
from supervisor.jail import cgroup
from supervisor.jail.confine import missing_mechanisms
from supervisor.layout import Layout
from supervisor.prove import decoys, groups, places, stage
from supervisor.prove.attempting import Attempts, Subject
from supervisor.prove.catalogue import Attack, Grant, Reach, applies_to, granted_by
from supervisor.prove.verdict import Ended, Verdict, judge
from supervisor.prove.within import Task
from supervisor.spawner.service import COMMON_IMPORTS

OTHER_UID = WORKER_UIDS[-1]
# Nobody's account, as which an account of this machine's attacks.
ACCOUNT, ACCOUNT_UID = "local user", 65534
_DESCRIPTORS = 4096


class Call(msgspec.Struct, frozen=True):
    """What a lane has to go by: all policies, the kinds that it attacks from, the cgroup folders that are its own, and
    the controls to leave out."""

    policies: Mapping[str, Compiled]
    kinds: frozenset[str]
    folders: tuple[str, ...]
    without: frozenset[str] = frozenset()


class Lane:
    """One stage; `prove` makes it in a process of its own, since there is no way back."""

    def __init__(self, call: Call) -> None:
        self._policies = call.policies
        groups.enter(call.folders)
        self._decoy_groups = groups.decoys(call.folders)
        self._tree = cgroup.prepare()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, _DESCRIPTORS)), hard))
        self._held = stage.build(OTHER_UID)
        self._others = places.Others(decoys.begin(0), decoys.begin(OTHER_UID), OTHER_UID)
        self._dropped = call.without
        self._attempts = Attempts(call.policies, missing_mechanisms(), call.without)
        self._bare: dict[bytes, Ended] = {}
        _load(call.policies[kind] for kind in sorted(call.kinds))

    def prove(self, attack: Attack, reach: Reach) -> Verdict | None:
        """The verdict on one attack against one kind; None when it could never be that kind's."""
        profile = reach.profile
        if not applies_to(attack, profile):
            return None
        compiled = self._policies[profile.kind]
        group = self._tree.create(f"{profile.kind}.0", profile.limits)
        known = places.known(profile, self._others, self._decoy_groups, group)
        task, lacking = _task(attack, known)
        if lacking:
            group.remove()
            return Verdict(attack.id, profile.kind, "not applicable", "", lacking, "")
        # Without confinement its endpoint lies where the host has it.
        endpoint = f"{Layout().channel_folder(profile.kind, 0)}/s"
        bare = self._without_confinement(attack, {**known, "own_endpoint": endpoint}, compiled)
        confined = self._attempts.make(attack, task, Subject(compiled, group))
        if confined.how == "broken":
            # Once more: the last one of that uid may not have been quite gone, and a kind may have few processes.
            group = self._tree.create(f"{profile.kind}.0", profile.limits)
            confined = self._attempts.make(attack, task, Subject(compiled, group))
        left = tuple(control for control in attack.controls if control not in self._dropped)
        attack = msgspec.structs.replace(attack, controls=left or attack.controls)
        return judge(attack, profile.kind, granted_by(reach, _resolved(attack.granted)), confined, bare)

    def prove_account(self, attack: Attack) -> Verdict:
        """The verdict on one attack of an account of this machine's."""
        compiled = self._policies["supervisor"]
        group = self._tree.create("account.0", compiled.profile.limits)
        known = places.known(compiled.profile, self._others, self._decoy_groups, group)
        group.remove()
        task, _ = _task(attack, known)
        account = self._attempts.make(attack, task, Subject(compiled, None, ACCOUNT_UID))
        return judge(attack, ACCOUNT, "", account, self._without_confinement(attack, known, compiled))

    def _without_confinement(self, attack: Attack, known: Mapping[str, int | str], compiled: Compiled) -> Ended:
        """The same probe as root without confinement, once for all for whom it is the same."""
        task, _ = _task(attack, known)
        key = msgspec.msgpack.encode((task, compiled.profile.transport if attack.origin == "channel" else ""))
        if key not in self._bare:
            self._bare[key] = self._attempts.make(attack, task, Subject(compiled, None))
        return self._bare[key]


def _load(policies: Iterable[Compiled]) -> None:
    """What the spawner has loaded and frozen before it forks, and what its children would load anew each time."""
    for name in (*COMMON_IMPORTS, *(name for compiled in policies for name in compiled.profile.preload)):
        import_module(name)
    gc.collect()
    gc.freeze()
    gc.disable()


def _task(attack: Attack, known: Mapping[str, int | str]) -> tuple[Task, str]:
    """The attempt with the decoys filled in; the second is why there can be none, if so."""
    arguments: dict[str, int | str | tuple[int | str, ...]] = {}
    for name, value in attack.arguments.items():
        words = value if isinstance(value, tuple) else (value,)
        lacking = next((word[2:-1] for word in map(str, words) if _is_placeholder(word) and not known[word[2:-1]]), "")
        if lacking:
            return Task(attack.probe, {}), places.WHY_NOT.get(lacking, f"there is no {lacking} here")
        filled = tuple(known[str(word)[2:-1]] if _is_placeholder(str(word)) else word for word in words)
        arguments[name] = filled if isinstance(value, tuple) else filled[0]
    return Task(attack.probe, arguments, attack.permitted), ""


def _resolved(grants: tuple[Grant, ...]) -> tuple[Grant, ...]:
    """Landlock judges a file where it lies: what leads there by links is granted with it (/bin, into /usr)."""
    return (*grants, *(msgspec.structs.replace(each, path=os.path.realpath(each.path)) for each in grants if each.path))


def _is_placeholder(word: str) -> bool:
    return word.startswith("${")
