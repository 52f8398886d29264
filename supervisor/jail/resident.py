# SPDX-License-Identifier: Apache-2.0
"""Owns what the supervisor gives up before its program starts; runs in the spawner's first child, before its exec."""

from contextlib import suppress

from ipc.errors import ConfinementError
from policy.profile import Profile
from supervisor.jail import capabilities, lifeline, mdwe, rlimits, seccomp
from supervisor.jail.missing import Missing


def confine_resident(profile: Profile, spawner: int, startup_filter: bytes) -> None:
    """Capabilities, secure bits, resource limits and a life that ends with the spawner's, as `profile` says.

    ConfinementError names the step that failed; then the child must exit."""
    step = "resource limits"
    try:
        rlimits.lower(profile.limits)
        step = "capabilities"
        capabilities.limit_to(profile.start_capability_names)
        step = "parent-death signal"
        lifeline.die_with(spawner)
        step = "no new privileges"
        capabilities.no_new_privileges()
        step = "writable code"
        # The spawner has found out, and told, whether this kernel has it.
        with suppress(Missing):
            mdwe.deny_writable_code()
        step = "system calls"
        seccomp.load(startup_filter)
    except OSError as error:
        raise ConfinementError(step, str(error)) from None
