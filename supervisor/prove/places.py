# SPDX-License-Identifier: Apache-2.0
"""Owns what the catalogue's placeholders stand for on one stage and for one kind; reads nothing, decides nothing."""

from collections.abc import Mapping

import msgspec

from policy.profile import Profile
from supervisor.dispatch import PHASES
from supervisor.jail.cgroup import Group, limit_files
from supervisor.prove import stage
from supervisor.prove.decoys import Decoy
from supervisor.prove.probes_channel import SAMPLES

# More than that no probe takes of a machine that has other work.
MOST_MEMORY_MIB, MOST_PROCESSES = 512, 128
WHY_NOT = {
    "too_much_memory": f"it may have more memory than the {MOST_MEMORY_MIB} MiB that a probe takes",
    "too_many_processes": f"it may have more processes than the {MOST_PROCESSES} that a probe makes",
    "own_elsewhere": "all messages of its own that a probe knows are permitted in every phase",
    "own_limits": "no cgroup limits its memory here",
    "decoy_group": "there is no cgroup that limits memory here",
}


class Others(msgspec.Struct, frozen=True):
    """Who is attacked; `uid` is the other worker's."""

    supervisor: Decoy
    worker: Decoy
    uid: int


def known(profile: Profile, others: Others, decoy_groups: tuple[str, ...], group: Group) -> Mapping[str, int | str]:
    """Placeholder -> value; one that is empty has nothing to stand for."""
    limits = profile.limits
    own_limits, own_limit = _own_limit(profile, group)
    messages = {request.message for request in profile.requests}
    elsewhere = _out_of_phase(profile)
    return {
        "file": stage.FILE,
        "folder": stage.FOLDER,
        "setuid_program": stage.SETUID,
        "shared_memory": stage.SHARED_MEMORY_KEY,
        "supervisor": others.supervisor.pid,
        "supervisor_address": others.supervisor.address,
        "other": others.worker.pid,
        "other_address": others.worker.address,
        "other_uid": others.uid,
        "own_endpoint": "/channel/s",
        "decoy_group": _decoy_group(decoy_groups, group),
        "own_limits": own_limits,
        "own_limit": own_limit,
        "too_much_memory": limits.memory_mib + 48 if limits.memory_mib <= MOST_MEMORY_MIB else "",
        "too_many_processes": limits.pids + 8 if limits.pids <= MOST_PROCESSES else "",
        "too_many_descriptors": limits.open_files + 16,
        "too_large_a_file": limits.file_size_mib + 1,
        "own_elsewhere": elsewhere[0],
        "elsewhere": elsewhere[1],
        "foreign": next(name for name in ("SetPassword", "Verification") if name not in messages),
    }


def _out_of_phase(profile: Profile) -> tuple[str, str]:
    """A message of its own that a probe knows, and a phase in which it is not permitted; empty where there is none."""
    permitted = {(request.message, request.phase) for request in profile.requests}
    own = [name for name in SAMPLES if any(name == message for message, _ in permitted)]
    return next(((name, phase) for name in own for phase in PHASES if (name, phase) not in permitted), ("", ""))


def _own_limit(profile: Profile, group: Group) -> tuple[str, str]:
    """The file that limits the memory of the attacker's own group, and what it holds."""
    for place in group.places:
        if "memory" in place.controllers:
            file, value = limit_files(place.version, "memory", profile.limits)[0]
            return f"{place.folder}/{file}", value
    return "", ""


def _decoy_group(decoy_groups: tuple[str, ...], group: Group) -> str:
    """The members' file of the decoy's group that lies in the same hierarchy as the limit of memory."""
    for place in group.places:
        if "memory" in place.controllers:
            above = place.folder.rsplit("/", 2)[0]
            return next((f"{folder}/cgroup.procs" for folder in decoy_groups if folder.rsplit("/", 1)[0] == above), "")
    return ""
