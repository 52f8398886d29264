# SPDX-License-Identifier: Apache-2.0
"""Owns what is written: the policy on disk with its overrides, and whether the compiled one is what its sources make.

Reads files alone; needs libseccomp to make the programs again, and says so where it is not there.
"""

import os
import time

import msgspec

from ipc.errors import ConfigError
from policy import load
from policy.profile import Compiled, CompiledPolicy
from policy.sources import digest, read_file, read_sources
from supervisor import policy_files
from supervisor.audit.findings import Check, Finding, check

_COMPILED = "policy/compiled.bin"
_UNUSABLE = (OSError, msgspec.DecodeError, UnicodeDecodeError)


class Written(msgspec.Struct, frozen=True):
    """The policies by kind, and how they stand. No kinds: there is no policy that can be used.

    `sources` names the files of a kind's policy: its own, and the overrides where they change it."""

    digest: str
    kinds: dict[str, Compiled]
    sources: dict[str, str]
    check: Check


def read(config: str, started: float, folder: str | None = None) -> Written:
    """The policy in `folder` (this installation's) under the overrides and the settings in the file `config`.

    `started`: when the running agent was, in seconds since 1970."""
    folder = folder or load.own_folder()
    try:
        shipped = msgspec.msgpack.decode(read_file(f"{folder}/{load.FILE_NAME}"), type=CompiledPolicy)
        sources = read_sources(folder)
    except _UNUSABLE as error:
        found = [Finding(f"can't be used: {error}", "a compiled policy", _COMPILED)]
        return Written("", {}, {}, check("policy", found))
    found, note = _against_sources(shipped, sources)
    policy = shipped
    try:
        ruled = _ruled(folder, config)
        policy = ruled or shipped
    except ConfigError as error:
        found.append(
            Finding(f"the agent could not be started again: {error}", "overrides that can be used", "policy.d")
        )
    except ImportError as error:
        note = f"overrides were not looked at, for want of a module ({error})"
    found += _later(started)
    before = {entry.profile.kind: entry for entry in shipped.programs}
    kinds = {entry.profile.kind: entry for entry in policy.programs}
    changed = f" with {', '.join(policy.origin.files)}" if policy.origin.files else ""
    named = {kind: f"policy/profiles/{kind}.toml{changed if kinds[kind] != before.get(kind) else ''}" for kind in kinds}
    here = {entry.profile.kind: entry for entry in load.installed(policy).programs}
    return Written(policy.digest, here, named, check("policy", found, note))


def _ruled(folder: str, config: str) -> CompiledPolicy | None:
    """The policy as a start would have it now; None where nothing here says anything but what was shipped."""
    places = policy_files.Places()
    content = policy_files.config_bytes(config)
    if policy_files.is_as_shipped(places, content):
        return None
    # Only where there is something to rule on: it loads a signature's mathematics.
    from supervisor.compiler.ruling import rule

    return rule(policy_files.gathered(places, folder, config, content))


def _later(started: float) -> list[Finding]:
    """Overrides that came, went or changed after the start: what runs was not asked about them."""
    folder = policy_files.Places().overrides
    try:
        paths = [folder, *(f"{folder}/{name}" for name in sorted(os.listdir(folder)))]
        late = [path for path in paths if os.lstat(path).st_ctime > started]
    except OSError:
        return []
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(started))
    return [
        Finding(f"{path} changed after the agent's start at {when}", "a restart after a change", path) for path in late
    ]


def _against_sources(policy: CompiledPolicy, sources: dict[str, bytes]) -> tuple[list[Finding], str]:
    """What differs, and a note on what could not be compared."""
    if policy.digest != digest(sources):
        said = f"made from sources with SHA-256 {policy.digest[:16]}"
        return [Finding(said, f"from those beside it, {digest(sources)[:16]}", _COMPILED)], ""
    try:
        from policy.compile import compile_policy
    except (ImportError, OSError) as error:
        return [], f"not made again and compared, for want of libseccomp ({error})"
    try:
        again = compile_policy(sources)
    except ConfigError as error:
        return [Finding(f"its sources can't be compiled: {error}", "sources without a mistake", "policy/")], ""
    return _differences(policy, again), ""


def _differences(policy: CompiledPolicy, again: CompiledPolicy) -> list[Finding]:
    ours = {entry.profile.kind: entry for entry in policy.programs}
    theirs = {entry.profile.kind: entry for entry in again.programs}
    return [
        Finding(f"its part for {kind} is not what the sources make", "their product", _COMPILED)
        for kind in sorted(ours.keys() | theirs.keys())
        if ours.get(kind) != theirs.get(kind)
    ]
