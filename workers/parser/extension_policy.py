# SPDX-License-Identifier: Apache-2.0
"""Owns waagent's policy file (extensions.md 4.1): its bytes to a typed `ExtensionPolicyFile`; runs in the parser, and
by itself for the command that shows what the file means.

What it does not know it refuses: a rule that was written and not understood would be one that is not kept.
"""

import re
import sys
from typing import Any

import msgspec

from ipc.errors import InputError
from ipc.messages import ExtensionPolicyFile, PolicyEntry
from workers.parser.answer import fitting
from workers.parser.json_document import decode

NEWEST = (0, 1, 0)
_VERSION = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9}){0,2}")


class _Entry(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    signature_required: bool | msgspec.UnsetType = msgspec.UNSET
    runtime_policy: Any = None


class _Policies(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    allow_listed_extensions_only: bool = False
    signature_required: bool = False
    extensions: dict[str, _Entry] = {}


class _Document(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    policy_version: str
    extension_policies: _Policies = msgspec.field(default_factory=_Policies)


def parse(document: bytes) -> ExtensionPolicyFile:
    """Raises InputError that names the key."""
    found = decode(document, _Document)
    _check_version(found.policy_version)
    policies, entries, known = found.extension_policies, list[PolicyEntry](), set[str]()
    for name, entry in policies.extensions.items():
        if name.lower() in known:
            raise InputError("extensionPolicies.extensions", "has one name twice, in different case")
        known.add(name.lower())
        is_required = None if entry.signature_required is msgspec.UNSET else entry.signature_required
        entries.append(PolicyEntry(name, is_required))
    return fitting(
        ExtensionPolicyFile(
            found.policy_version, policies.allow_listed_extensions_only, policies.signature_required, tuple(entries)
        )
    )


def _check_version(version: str) -> None:
    if not _VERSION.fullmatch(version):
        raise InputError("policyVersion", "is not major[.minor[.patch]]")
    if tuple(map(int, version.split("."))) > NEWEST:
        raise InputError("policyVersion", f"is newer than {'.'.join(map(str, NEWEST))}, the newest that is understood")


def show() -> int:
    """The file at standard input, as JSON at standard output; 1, and what is wrong with it, where it can't be used."""
    try:
        found = parse(sys.stdin.buffer.read())
    except InputError as error:
        sys.stderr.write(f"{error.where}: {error.problem}\n")
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(found))
    return 0


if __name__ == "__main__":
    sys.exit(show())
