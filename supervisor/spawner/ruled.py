# SPDX-License-Identifier: Apache-2.0
"""Owns the question which policy is in force: the shipped one, or what overrides and signature make of it.

Runs in the spawner, at its start; unloaded afterwards.
"""

from importlib import import_module

import msgspec

from ipc.descriptors import sealed_memfd
from policy.load import SEALED_NAME, own_folder
from policy.profile import CompiledPolicy
from supervisor import policy_files
from supervisor.jail import cgroup


def in_force(shipped: CompiledPolicy, tree: cgroup.Tree, config_path: str) -> tuple[CompiledPolicy, int | None]:
    """The policy for as long as this process lives, and the sealed file that holds it if it is not the shipped one.

    ConfigError where something says that there is to be another one, and there can be none."""
    places = policy_files.Places()
    config = policy_files.config_bytes(config_path)
    if policy_files.is_as_shipped(places, config):
        return shipped, None
    material = policy_files.gathered(places, own_folder(), config_path, config)
    ruled: tuple[CompiledPolicy, int] = import_module("supervisor.spawner.compiler").in_force(shipped, tree, material)
    return ruled


def kept(policy: CompiledPolicy, sealed: int | None) -> int:
    """The sealed file with `policy`, made anew where it has none."""
    return sealed_memfd(SEALED_NAME, msgspec.msgpack.encode(policy)) if sealed is None else sealed
