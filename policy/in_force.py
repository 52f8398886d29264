# SPDX-License-Identifier: Apache-2.0
"""Owns the policy as a start would have it: what was shipped, with the override files of a folder merged in.

For the command line: reads TOML, compiles nothing, asks no agent. Whether the files are signed is not looked at here.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from ipc.errors import ConfigError
from ipc.messages.extension_rules import ExtensionRule
from ipc.messages.grants import WireGrant
from policy import extension_rules
from policy.difference import Change, difference
from policy.edition import Edition, edition_of, read_edition
from policy.grants import told
from policy.override import merge
from policy.override_file import GRANTS


class InForce(msgspec.Struct, frozen=True):
    """`edition` is what counts. `changes` are (override file, what it changed), in the order of the files.

    `min_level` and `required` (mechanisms) are what overrides demand of the machine before a worker starts,
    `wireserver` what they let handlers ask the WireServer for, `extensions` what they say of these."""

    shipped: Edition
    edition: Edition
    changes: tuple[tuple[str, Change], ...]
    min_level: str = "basic"
    required: tuple[str, ...] = ()
    wireserver: tuple[WireGrant, ...] = ()
    extensions: tuple[ExtensionRule, ...] = ()

    def of(self, kind: str) -> list[tuple[str, Change]]:
        """What overrides changed in `kind`."""
        return [(file, change) for file, change in self.changes if change.kind == kind]


def in_force(shipped: Path, overrides: Mapping[str, bytes]) -> InForce:
    """The policy in the folder `shipped` under `overrides`; ConfigError names file, key and what was expected."""
    first = read_edition(shipped)
    if not first.groups:
        raise ConfigError(str(shipped), "has no sources (profiles/ and calls/) to read the policy from")
    merged = merge(first.profiles.values(), first.groups, overrides)
    steps = list(_steps(first, overrides))
    last = steps[-1].edition if steps else first
    changes = tuple(_changes(first, steps))
    return InForce(first, last, changes, merged.min_level, merged.required, merged.wireserver, merged.extensions)


class _Step(NamedTuple):
    """What is in force after one more file."""

    file: str
    edition: Edition
    wireserver: tuple[WireGrant, ...]
    extensions: tuple[ExtensionRule, ...]


def _steps(shipped: Edition, overrides: Mapping[str, bytes]) -> Iterator[_Step]:
    merged: dict[str, bytes] = {}
    for name, content in sorted(overrides.items()):
        merged[name] = content
        result = merge(shipped.profiles.values(), shipped.groups, merged)
        yield _Step(name, edition_of(result.profiles, shipped.groups), result.wireserver, result.extensions)


def _changes(edition: Edition, steps: list[_Step]) -> Iterator[tuple[str, Change]]:
    grants = 0
    for step in steps:
        for change in difference(edition, step.edition):
            yield step.file, change
        # Files only add grants: they are nobody's in the shipped policy.
        for grant in step.wireserver[grants:]:
            yield step.file, Change("forwarder", GRANTS, "+", told(grant), "loosens", grant.why)
        for rule in step.extensions:
            if rule.file == step.file:
                yield step.file, extension_rules.change(rule)
        edition, grants = step.edition, len(step.wireserver)
