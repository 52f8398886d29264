# SPDX-License-Identifier: Apache-2.0
"""Owns the start of the first process: policies, cgroups, then the supervisor, and only then all that workers need.

Runs as the spawner. It imports next to nothing before the supervisor is under way: both start at the same time.
"""

import os
from functools import partial
from importlib import import_module

from ipc.errors import ConfigError, ConfinementError
from policy.profile import CompiledPolicy
from supervisor.exits import EXIT_CONFIG
from supervisor.jail import capabilities, cgroup, seccomp
from supervisor.layout import Layout
from supervisor.lean import unload
from supervisor.spawner import channel_folder
from supervisor.spawner.resident import Resident, Start, say

# Never needed again: neither this process nor any of its children has it loaded.
START_ONLY = (
    "policy.load",
    "policy.material",
    "policy.placeholders",
    "policy.sources",
    "supervisor.policy_files",
    "supervisor.spawner.lib_folder",
    "supervisor.spawner.ruled",
    "supervisor.spawner.single",
    "supervisor.spawner.waagent_policy_path",
)


def run(config_path: str) -> int:
    """Be the spawner until SIGTERM or SIGINT; the exit status is 0 then, 78 for settings that can't be used, else 1."""
    try:
        return serve(import_module("policy.load").load(), config_path)
    except ConfigError as error:
        say(f"not started: {error}")
        return EXIT_CONFIG
    except (OSError, ConfinementError) as error:
        say(f"ended: {error}")
    return 1


def serve(policy: CompiledPolicy, config_path: str) -> int:
    """Be the spawner of these policies, as `run` says; ConfigError when not root, OSError from the kernel."""
    if os.geteuid() != 0:
        raise ConfigError("run", "needs root: it confines others and gives its own privileges away")
    import_module("supervisor.spawner.single").take_the_place(Layout())
    # Before the first child: with cgroup version 2 this process moves, and its children must be born where it is.
    tree = cgroup.prepare()
    policy, sealed = import_module("supervisor.spawner.ruled").in_force(policy, tree, config_path)
    policies = {compiled.profile.kind: compiled for compiled in policy.programs}
    capabilities.narrow_to(policies["spawner"].profile.capability_names)
    capabilities.forbid_dump()
    # Before the first child: all have the same filters above them.
    seccomp.load(policies["spawner"].locked_filter)
    # What an earlier life left must be gone before anything of this one is there.
    tree.sweep()
    channel_folder.sweep(Layout().channels)
    own = policies["supervisor"]
    group = tree.create_beside("supervisor", own.profile.limits)
    resident = Resident(Start(own, group, config_path, sealed))
    # Later ones get the policy from us: the files may be a newer version's by then.
    begin = partial(
        Resident, Start(own, group, config_path, import_module("supervisor.spawner.ruled").kept(policy, sealed))
    )
    config = import_module("supervisor.policy_files").config_bytes(config_path)
    for name in ("lib_folder", "waagent_policy_path"):
        policy = import_module(f"supervisor.spawner.{name}").filled_in(policy, config)
    unload(START_ONLY)
    service = import_module("supervisor.spawner.service")
    status: int = service.Service(policy, tree, begin, resident).run()
    return status
