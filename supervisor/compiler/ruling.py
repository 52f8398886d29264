# SPDX-License-Identifier: Apache-2.0
"""Owns the ruling: which policy is in force, by the shipped one, the overrides, their signature and two settings.

Pure; runs in the sealed compiler, and in `agent-supervisor policy verify`. What it refuses is refused as a whole.
"""

import os
from collections.abc import Mapping

import msgspec

from ipc.errors import ConfigError
from policy.compile import compile_profiles
from policy.groups import CallGroup
from policy.level import Level, higher, required
from policy.loosened import loosened
from policy.material import Material
from policy.override import Merged, merge
from policy.override_file import FOLDER
from policy.profile import Compiled, CompiledPolicy, Origin, Profile
from policy.reading import read_policy
from policy.signature import FILE_NAME
from policy.sources import digest
from policy.trust import Trust, decide, signed_by
from supervisor import options
from supervisor.config import parse_bytes

SHOWN = 12


class Settings(msgspec.Struct, frozen=True):
    """The two options of /etc/waagent.conf that are about policies."""

    may_loosen: bool
    min_level: Level


def rule(material: Material) -> CompiledPolicy:
    """The policy in force; ConfigError, with file, key and what was expected, where there can be none.

    The signature comes first: where one is required, nothing is read that nobody signed."""
    shipped_digest = digest(material.shipped)
    trust = decide(material)
    signer = signed_by(material, trust, shipped_digest)
    chosen = settings(material.config_path, material.config)
    shipped, groups = read_policy(material.shipped)
    merged = merge(shipped, groups, material.overrides)
    loosenings = _loosenings(shipped, merged, groups, chosen)
    level = higher(chosen.min_level, merged.min_level)
    everything = material.shipped | {f"{FOLDER}/{name}": content for name, content in material.overrides.items()}
    return CompiledPolicy(
        digest(everything) if material.overrides else shipped_digest,
        os.uname().machine,
        _compiled(merged, groups, material.overrides),
        Origin(
            files=tuple(sorted(material.overrides)),
            signer=signer,
            may_loosen=chosen.may_loosen,
            loosened=loosenings,
            granted=_granted(shipped, merged),
            notes=_notes(material, trust),
        ),
        level,
        required(level, merged.required),
        merged.wireserver,
        merged.extensions,
    )


def settings(path: str, content: bytes) -> Settings:
    """From the configuration file's content, empty for none; ConfigError where one of the two has no usable value.

    Elsewhere a default would do; for these it could be the weaker choice."""
    if not content:
        return Settings(options.ALLOW_LOOSENING.default, "basic")
    parsed = parse_bytes(path, content)
    for finding in parsed.findings:
        if finding.taken and finding.problem.startswith((options.ALLOW_LOOSENING.name, options.MIN_LEVEL.name)):
            raise ConfigError(path, f"line {finding.line}: {finding.problem}")
    return Settings(parsed.config[options.ALLOW_LOOSENING], msgspec.convert(parsed.config[options.MIN_LEVEL], Level))


def _loosenings(
    shipped: tuple[Profile, ...], merged: Merged, groups: Mapping[str, CallGroup], chosen: Settings
) -> tuple[str, ...]:
    """By what the overrides loosen the policy; ConfigError where that is not allowed."""
    found = loosened(shipped, groups, merged)
    if found and not chosen.may_loosen:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise ConfigError(
            FOLDER,
            f"overrides may only tighten unless {options.ALLOW_LOOSENING.name}=y; these loosen: "
            f"{'; '.join(found[:SHOWN])}{more}",
        )
    return tuple(found)


def _granted(shipped: tuple[Profile, ...], merged: Merged) -> tuple[str, ...]:
    """Paths that a kind has now and had not, placeholders left out."""
    before = {(profile.kind, grant.path) for profile in shipped for grant in profile.paths}
    after = {(profile.kind, grant.path) for profile in merged.profiles for grant in profile.paths}
    return tuple(sorted({path for _, path in after - before if path.startswith("/")}))


def _compiled(merged: Merged, groups: Mapping[str, CallGroup], overrides: Mapping[str, bytes]) -> tuple[Compiled, ...]:
    try:
        return compile_profiles(merged.profiles, groups)
    except ConfigError as error:
        files = ", ".join(sorted(overrides))
        raise ConfigError(f"{FOLDER} ({files})", f"the policy that results is refused: {error}") from None


def _notes(material: Material, trust: Trust) -> tuple[str, ...]:
    unchecked = (f"{FILE_NAME} is not checked: there is no key",) if material.signature and not trust.keys else ()
    return (*trust.notes, *unchecked)
