# SPDX-License-Identifier: Apache-2.0
"""Owns all that overrides loosen, of processes, grants and extensions, and in which of the files each of it stands.

Pure; used by the sealed compiler and the command line.
"""

from collections.abc import Collection, Mapping

from policy import extension_rules
from policy.grants import told
from policy.groups import CallGroup
from policy.override import Merged, merge
from policy.override_file import FOLDER, GRANTS
from policy.profile import Profile
from policy.reach import loosenings

# What allows it, in the configuration.
ALLOWING = "Policy.AllowLoosening=y"

Groups = Mapping[str, CallGroup]


def loosened(shipped: Collection[Profile], groups: Groups, merged: Merged) -> list[str]:
    """What `merged` gives more than `shipped`, a line each; one of them stops a start that allows none."""
    found = loosenings(shipped, merged.profiles, groups)
    found += [f"{GRANTS}: {told(grant)}" for grant in merged.wireserver]
    return found + extension_rules.loosenings(merged.extensions)


def by_file(shipped: Collection[Profile], groups: Groups, overrides: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """The same, each with the file since which it is so; what a later file takes back is not among them."""
    files: dict[str, bytes] = {}
    since: dict[str, str] = {}
    for name, content in sorted(overrides.items()):
        files[name] = content
        now = loosened(shipped, groups, merge(shipped, groups, files))
        since = {text: since.get(text, name) for text in now}
    return [(f"{FOLDER}/{name}", text) for text, name in since.items()]
