# SPDX-License-Identifier: Apache-2.0
"""Owns reading the compiled policy; runs in spawner, supervisor and verifier; parses no TOML and compiles nothing.

The file belongs to root and was made from the sources beside it; that it still fits them is checked here.
"""

import os
import sys
from collections.abc import Mapping

import msgspec

from ipc.descriptors import read_sealed
from ipc.errors import ConfigError
from policy.placeholders import expand, installation
from policy.profile import Compiled, CompiledPolicy
from policy.sources import digest, read_file, read_sources

FILE_NAME = "compiled.bin"
MAX_POLICY_BYTES = 4 << 20
# By what the sealed file of a policy with overrides is known in /proc.
SEALED_NAME = "agent-supervisor-policy"


def own_folder() -> str:
    """The folder of the policy that this installation came with."""
    return os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - pathlib loads urllib


def load(
    folder: str | None = None, machine: str | None = None, places: Mapping[str, tuple[str, ...]] | None = None
) -> CompiledPolicy:
    """The compiled policy in `folder` (this installation's), its paths' placeholders filled in from `places`.

    ConfigError when it is not there, not whole, made for another machine, or older than its sources."""
    folder = folder or own_folder()
    path = f"{folder}/{FILE_NAME}"
    try:
        policy = msgspec.msgpack.decode(read_file(path), type=CompiledPolicy)
        sources = digest(read_sources(folder))
    except OSError as error:
        raise ConfigError(path, f"can't be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(path, f"is no compiled policy: {error}") from None
    if policy.digest != sources:
        raise ConfigError(path, "does not fit its sources: python -m policy.compile")
    if policy.machine != (machine or os.uname().machine):
        raise ConfigError(path, f"was made for {policy.machine}")
    return installed(policy, places)


def given(sealed: int) -> CompiledPolicy:
    """The policy in the sealed file that the compiler of overrides made; BadDescriptor or msgspec.MsgspecError for
    anything else."""
    return installed(msgspec.msgpack.decode(read_sealed(sealed, MAX_POLICY_BYTES), type=CompiledPolicy))


def installed(policy: CompiledPolicy, places: Mapping[str, tuple[str, ...]] | None = None) -> CompiledPolicy:
    """`policy` with its paths' placeholders filled in, from `places` or as this installation lies."""
    places = places or installation(sys.prefix, sys.executable, os.__file__, own_folder())
    return msgspec.structs.replace(policy, programs=tuple(_expanded(entry, places) for entry in policy.programs))


def _expanded(compiled: Compiled, places: Mapping[str, tuple[str, ...]]) -> Compiled:
    profile = compiled.profile
    profile = msgspec.structs.replace(profile, paths=expand(profile.paths, places, f"profiles/{profile.kind}.toml"))
    return msgspec.structs.replace(compiled, profile=profile)
