# SPDX-License-Identifier: Apache-2.0
"""Owns what the supervisor gives up by itself: once it is set up, and again when provisioning is over.

Runs in the supervisor. It never widens anything.
"""

from collections.abc import Mapping

import msgspec

from ipc.errors import ConfinementError
from policy.placeholders import expand
from policy.profile import Compiled, Profile
from supervisor.jail import capabilities, landlock, seccomp

Places = Mapping[str, tuple[str, ...]]


def lock_resident(compiled: Compiled, places: Places) -> bool:
    """What only its start needed is gone: capabilities, files beyond the policy's paths, system calls.

    `places` are the folders that the configuration names, by placeholder. Whether the kernel has Landlock; then
    `end_provisioning` has to follow. ConfinementError names the step."""
    step = "capabilities"
    try:
        capabilities.limit_to(compiled.profile.capability_names)
        step = "landlock"
        # The spawner has found out, and told, what this kernel lacks.
        landlocked = landlock.version() > 0
        if landlocked:
            _restrict(compiled.profile, places)
    except OSError as error:
        raise ConfinementError(step, str(error)) from None
    # Single-threaded still, but whatever a library may have started is under it, too.
    seccomp.load(compiled.locked_filter, all_threads=True)
    return landlocked


def end_provisioning(profile: Profile, places: Places) -> None:
    """A second, smaller set of files on top of the first. ConfinementError when the kernel refuses it."""
    lasting = tuple(grant for grant in profile.paths if grant.until == "end")
    try:
        _restrict(msgspec.structs.replace(profile, paths=lasting), places)
    except OSError as error:
        raise ConfinementError("landlock", str(error)) from None


def _restrict(profile: Profile, places: Places) -> None:
    landlock.restrict(msgspec.structs.replace(profile, paths=expand(profile.paths, places, "supervisor.toml")))
