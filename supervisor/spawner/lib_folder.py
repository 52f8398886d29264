# SPDX-License-Identifier: Apache-2.0
"""Owns where Lib.Dir is, as far as the spawner has to know: committers may write there, and nobody may tell it later.

Runs in the spawner, at its start; unloaded afterwards. Of the configuration it reads that one option.
"""

import os
from collections.abc import Mapping

import msgspec

from policy.placeholders import LIB, expand
from policy.profile import Compiled, CompiledPolicy
from supervisor.layout import Layout

OPTION = b"Lib.Dir"
# The machine's own, and programs: no folder of ours.
NEVER = ("/bin", "/boot", "/dev", "/etc", "/lib", "/proc", "/run", "/sbin", "/sys", "/usr")


def filled_in(policy: CompiledPolicy, config: bytes) -> CompiledPolicy:
    """`policy` with that folder in the paths of workers; the supervisor's own stay as they are, it fills them in."""
    places = {LIB: (folder(config),)}
    return msgspec.structs.replace(policy, programs=tuple(_with(each, places) for each in policy.programs))


def folder(config: bytes) -> str:
    """The option's value; the default for one that is no plain path."""
    found = option(config, OPTION)
    path = found.rstrip("/")
    plain = path.startswith("/") and os.path.normpath(path) == path and path not in NEVER
    return path if plain and path.isprintable() else Layout().lib


def option(config: bytes, name: bytes) -> str:
    """The last value of the option, read as supervisor.config reads it (config-cli.md 1.1); empty without one."""
    found = ""
    for line in config.split(b"\n"):
        key, separator, rest = line.partition(b"=")
        if separator and not line.startswith(b"#") and key.strip() == name:
            found = rest.partition(b"#")[0].strip(b'" \t\r\f\v').strip().decode("utf-8", "replace")
    return found


def _with(compiled: Compiled, places: Mapping[str, tuple[str, ...]]) -> Compiled:
    profile = compiled.profile
    if profile.kind == "supervisor" or all(grant.path != LIB for grant in profile.paths):
        return compiled
    paths = expand(profile.paths, places, f"profiles/{profile.kind}.toml")
    return msgspec.structs.replace(compiled, profile=msgspec.structs.replace(profile, paths=paths))
