# SPDX-License-Identifier: Apache-2.0
"""Owns the way from the policy's TOML files to policy/compiled.bin; a build tool: `python -m policy.compile`.

Never imported by a running agent.
"""

import argparse
import os
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from ipc.errors import ConfigError
from policy.filters import program
from policy.groups import CallGroup, combine
from policy.lint import absent_modules, lint
from policy.load import FILE_NAME, own_folder
from policy.profile import Compiled, CompiledPolicy, Profile
from policy.sources import digest, read_sources

T = TypeVar("T")


def read_policy(sources: Mapping[str, bytes]) -> tuple[tuple[Profile, ...], dict[str, CallGroup]]:
    """Profiles, and groups of calls by name, from the files of `sources`; ConfigError names the file and the key."""
    profiles = []
    groups = {}
    for name, content in sorted(sources.items()):
        part, _, file = name.partition("/")
        stem = file.removesuffix(".toml")
        if part == "calls":
            groups[stem] = _convert(name, content, CallGroup)
        else:
            profile = _convert(name, content, Profile)
            if profile.kind != stem:
                raise ConfigError(name, f"kind: {profile.kind!r} is not the file's name")
            profiles.append(profile)
    return tuple(profiles), groups


def compile_policy(sources: Mapping[str, bytes]) -> CompiledPolicy:
    """The whole policy for this machine; ConfigError with all that lint finds."""
    profiles, groups = read_policy(sources)
    problems = lint(profiles, groups)
    if problems:
        raise ConfigError("policy", "; ".join(problems))
    compiled = tuple(_compile_one(profile, groups) for profile in profiles)
    return CompiledPolicy(digest(sources), os.uname().machine, compiled)


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
            missing = absent_modules((entry.profile for entry in policy.programs), chosen.folder.resolve().parent)
            if missing:
                raise ConfigError("policy", "; ".join(missing))
            return 0
        _write(chosen.output or chosen.folder / FILE_NAME, msgspec.msgpack.encode(policy))
    except (ConfigError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _compile_one(profile: Profile, groups: Mapping[str, CallGroup]) -> Compiled:
    source = f"profiles/{profile.kind}.toml"
    startup = combine(profile.startup_calls, groups, source)
    locked = combine(profile.locked_calls, groups, source)
    return Compiled(profile, program(startup, source), program(locked, source))


def _convert(name: str, content: bytes, kind: type[T]) -> T:
    try:
        return msgspec.convert(tomllib.loads(content.decode("utf-8")), kind)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(name, f"is not TOML: {error}") from None
    except msgspec.ValidationError as error:
        raise ConfigError(name, str(error)) from None


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all: a build that is interrupted leaves the old file."""
    temporary = path.with_suffix(".new")
    temporary.write_bytes(content)
    temporary.replace(path)


if __name__ == "__main__":
    sys.exit(main())
