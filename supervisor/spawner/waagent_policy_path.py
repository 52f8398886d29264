# SPDX-License-Identifier: Apache-2.0
"""Owns which file the worker that copies waagent's policy file sees: the one that the configuration names at the start.

Runs in the spawner, at its start; unloaded afterwards. Nobody may tell it later: it could be any file of root's.
"""

import os

import msgspec

from policy.profile import Compiled, CompiledPolicy, PathGrant
from supervisor.spawner.lib_folder import option

KIND, OPTION = "waagent-policy", b"Policy.PolicyFilePath"


def filled_in(policy: CompiledPolicy, config: bytes) -> CompiledPolicy:
    """`policy` with that file in the place of the default one, in the view of its worker."""
    path = named(config)
    programs = tuple(_with(each, path) if path and each.profile.kind == KIND else each for each in policy.programs)
    return msgspec.structs.replace(policy, programs=programs)


def named(config: bytes) -> str:
    """The file that the option names; empty, which leaves the default, where it is not set or names none."""
    path = option(config, OPTION)
    normal = os.path.normpath(path) if path.startswith("/") and path.isprintable() else ""
    return normal if normal.strip("/") else ""


def _with(compiled: Compiled, path: str) -> Compiled:
    """An override may have taken the grant away: then there is none to be moved."""
    moved: tuple[PathGrant, ...] = tuple(msgspec.structs.replace(each, path=path) for each in compiled.profile.paths)
    return msgspec.structs.replace(compiled, profile=msgspec.structs.replace(compiled.profile, paths=moved))
