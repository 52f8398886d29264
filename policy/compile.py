# SPDX-License-Identifier: Apache-2.0
"""Owns the way from the policy's TOML files to policy/compiled.bin; a build tool: `python -m policy.compile`.

Of a running agent only the sealed compiler of overrides imports it, for `compile_profiles`.
"""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from ipc.errors import ConfigError
from policy.filters import program
from policy.groups import CallGroup, stages
from policy.lint import absent_modules, lint
from policy.load import FILE_NAME, own_folder
from policy.profile import Compiled, CompiledPolicy, Profile
from policy.reading import read_policy
from policy.sources import digest, read_sources
from policy.worker_modules import without_policy


def compile_policy(sources: Mapping[str, bytes]) -> CompiledPolicy:
    """The whole policy for this machine; ConfigError with all that lint finds."""
    profiles, groups = read_policy(sources)
    return CompiledPolicy(digest(sources), os.uname().machine, compile_profiles(profiles, groups))


def compile_profiles(profiles: Sequence[Profile], groups: Mapping[str, CallGroup]) -> tuple[Compiled, ...]:
    """Every profile with its filters for this machine; ConfigError with all that lint finds."""
    problems = lint(profiles, groups)
    if problems:
        raise ConfigError("policy", "; ".join(problems))
    return tuple(_compile_one(profile, profiles, groups) for profile in profiles)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compile, or with --check only look; the exit status is 1 when something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m policy.compile", description="Compile the policy's TOML files.")
    parser.add_argument("--check", action="store_true", help="write nothing; also look whether every module is there")
    parser.add_argument("--output", type=Path, help=f"where to write (default: {FILE_NAME} beside the sources)")
    parser.add_argument("--folder", type=Path, default=Path(own_folder()), help="where the sources are")
    chosen = parser.parse_args(arguments)
    try:
        sources = read_sources(str(chosen.folder))
        policy = compile_policy(sources)
        if chosen.check:
            profiles, project = [entry.profile for entry in policy.programs], chosen.folder.resolve().parent
            missing = [*absent_modules(profiles, project), *without_policy(profiles, project)]
            if missing:
                raise ConfigError("policy", "; ".join(missing))
            return 0
        _write(chosen.output or chosen.folder / FILE_NAME, msgspec.msgpack.encode(policy))
    except (ConfigError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _compile_one(profile: Profile, profiles: Sequence[Profile], groups: Mapping[str, CallGroup]) -> Compiled:
    source = f"profiles/{profile.kind}.toml"
    startup, locked = stages(profile, profiles, groups)
    return Compiled(profile, program(startup, source), program(locked, source))


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all: a build that is interrupted leaves the old file."""
    temporary = path.with_suffix(".new")
    temporary.write_bytes(content)
    temporary.replace(path)


if __name__ == "__main__":
    sys.exit(main())
