# SPDX-License-Identifier: Apache-2.0
"""Owns the start of the first process: policies, cgroups, then the supervisor, and only then all that workers need.

Runs as the spawner. It imports next to nothing before the supervisor is under way: both start at the same time.
"""

import os
from functools import partial
from importlib import import_module

from ipc.errors import ConfigError
from policy.load import load
from policy.profile import CompiledPolicy
from supervisor.exits import EXIT_CONFIG
from supervisor.jail import capabilities, cgroup
from supervisor.layout import Layout
from supervisor.spawner.resident import Resident, say
from supervisor.spawner.single import take_the_place


def run(config_path: str) -> int:
    """Be the spawner until SIGTERM or SIGINT; the exit status is 0 then, 78 for settings that can't be used, else 1."""
    try:
        return serve(load(), config_path)
    except ConfigError as error:
        say(f"not started: {error}")
        return EXIT_CONFIG
    except OSError as error:
        say(f"ended: {error}")
    return 1


def serve(policy: CompiledPolicy, config_path: str) -> int:
    """Be the spawner of these policies, as `run` says; ConfigError when not root, OSError from the kernel."""
    if os.geteuid() != 0:
        raise ConfigError("run", "needs root: it confines others and gives its own privileges away")
    take_the_place(Layout())
    policies = {compiled.profile.kind: compiled for compiled in policy.programs}
    # Before the first child: with cgroup version 2 this process moves, and its children must be born where it is.
    tree = cgroup.prepare()
    capabilities.narrow_to(policies["spawner"].profile.capability_names)
    # What an earlier life left must be gone before anything of this one is there.
    tree.sweep()
    own = policies["supervisor"]
    begin = partial(Resident, own, tree.create_beside("supervisor", own.profile.limits), config_path)
    resident = begin()
    service = import_module("supervisor.spawner.service")
    status: int = service.Service(policies, tree, begin, resident).run()
    return status
