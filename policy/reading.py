# SPDX-License-Identifier: Apache-2.0
"""Owns reading the policy's TOML: files of a folder in, profiles and groups of system calls out; compiles nothing.

Used by the compiler and the command line; never imported by a resident process.
"""

import tomllib
from collections.abc import Mapping
from typing import TypeVar

import msgspec

from ipc.errors import ConfigError
from policy.groups import CallGroup
from policy.misfit import told
from policy.profile import Profile

T = TypeVar("T")


def read_policy(sources: Mapping[str, bytes]) -> tuple[tuple[Profile, ...], dict[str, CallGroup]]:
    """Profiles, and groups of calls by name, from the files of `sources`; ConfigError names the file and the key."""
    profiles = []
    groups = {}
    for name, content in sorted(sources.items()):
        part, _, file = name.partition("/")
        stem = file.removesuffix(".toml")
        if part == "calls":
            groups[stem] = convert(name, content, CallGroup)
        else:
            profiles.append(read_profile(name, content))
    return tuple(profiles), groups


def read_profile(name: str, content: bytes) -> Profile:
    """One profile, which has to be named as its file is; ConfigError names the file and the key."""
    profile = convert(name, content, Profile)
    if profile.kind != name.rpartition("/")[2].removesuffix(".toml"):
        raise ConfigError(name, f"kind: {profile.kind!r} is not the file's name")
    return profile


def convert(name: str, content: bytes, kind: type[T]) -> T:
    """`content` as a `kind`; ConfigError, naming the file `name` and the key, where it has not that shape."""
    try:
        return msgspec.convert(tomllib.loads(content.decode("utf-8")), kind)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(name, f"is not TOML: {error}") from None
    except msgspec.ValidationError as error:
        raise ConfigError(name, told(error)) from None
