# SPDX-License-Identifier: Apache-2.0
"""Owns the whole list of faults: of each file by itself, of the policy together, of overrides, of the tree of modules.

For the command line: where the compiler stops at the first file that it can't use, this goes on to the next.
"""

import contextlib
from collections.abc import Collection, Mapping
from pathlib import Path

from ipc.errors import ConfigError
from policy.groups import CallGroup
from policy.lint import absent_modules, lint
from policy.load import FILE_NAME, load
from policy.loosened import ALLOWING, by_file
from policy.override import merge
from policy.override_file import FOLDER
from policy.profile import Profile
from policy.reading import convert, read_profile
from policy.sources import read_sources
from policy.worker_modules import without_policy


def faults(shipped: Path, overrides: Mapping[str, bytes], *, allow_loosening: bool = False) -> list[str]:
    """A line each, with file and key; empty when all is well. OSError when `shipped` can't be read.

    What overrides loosen are the last ones, unless it is allowed."""
    sources = read_sources(str(shipped))
    found, profiles, groups = _each_file(sources)
    if found:
        return found
    project = shipped.resolve().parent
    found += lint(profiles, groups)
    found += absent_modules(profiles, project)
    found += without_policy(profiles, project)
    found += _compiled(shipped)
    if not found:
        found += _overridden(profiles, groups, overrides, allow_loosening=allow_loosening)
    return found


def _each_file(sources: Mapping[str, bytes]) -> tuple[list[str], list[Profile], dict[str, CallGroup]]:
    found: list[str] = []
    profiles: list[Profile] = []
    groups: dict[str, CallGroup] = {}
    for name, content in sorted(sources.items()):
        try:
            if name.startswith("calls/"):
                groups[Path(name).stem] = convert(name, content, CallGroup)
            else:
                profiles.append(read_profile(name, content))
        except ConfigError as error:
            found.append(str(error))
    return found, profiles, groups


def _compiled(shipped: Path) -> list[str]:
    """A compiled policy that does not fit its sources would stop the start; none at all is the build's affair."""
    if (shipped / FILE_NAME).exists():
        try:
            load(str(shipped))
        except ConfigError as error:
            return [str(error)]
    return []


def _overridden(
    profiles: Collection[Profile],
    groups: Mapping[str, CallGroup],
    overrides: Mapping[str, bytes],
    *,
    allow_loosening: bool,
) -> list[str]:
    found = []
    usable: dict[str, bytes] = {}
    for name, content in sorted(overrides.items()):
        try:
            merge(profiles, groups, {**usable, name: content})
        except ConfigError as error:
            found.append(str(error))
        else:
            usable[name] = content
    found += [f"{FOLDER}: {fault}" for fault in lint(merge(profiles, groups, usable).profiles, groups)]
    if not allow_loosening:
        with contextlib.suppress(ConfigError):
            loosened = by_file(profiles, groups, usable)
            found += [f"{file}: loosens, which takes {ALLOWING}: {text}" for file, text in loosened]
    return found
