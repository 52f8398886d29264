# SPDX-License-Identifier: Apache-2.0
"""Owns what `--without` does for each control: on which kind, and what stands before it and has to be gone as well.

Controls overlap, on purpose. A control is shown to be of use by the kind for which it is the last one that stands.
Holds data only.
"""

from collections.abc import Sequence

import msgspec

from supervisor.prove.catalogue import Attack


class Drop(msgspec.Struct, frozen=True):
    """Leave a control out of the confinement of `kinds`, and with it those `behind` which it stands."""

    kinds: tuple[str, ...] = ()
    behind: frozenset[str] = frozenset()
    control: str = ""

    @property
    def everything(self) -> frozenset[str]:
        """All that is left out."""
        return self.behind | ({self.control} if self.control else set())

    def among(self, attacks: Sequence[Attack]) -> tuple[Attack, ...]:
        """Those of `attacks` that the control is meant to stop; all of them when none is left out."""
        return tuple(attack for attack in attacks if not self.control or self.control in attack.controls)


def _drop(control: str, kind: str, *behind: str) -> tuple[str, Drop]:
    return control, Drop((kind,), frozenset(behind), control)


DROPS: dict[str, Drop] = dict(
    (
        _drop("seccomp", "parser"),
        _drop("landlock", "account"),
        _drop("capabilities", "account-programs"),
        _drop("user-namespace", "parser", "seccomp", "capabilities"),
        _drop("mount-namespace", "account", "seccomp", "capabilities", "landlock"),
        _drop("view", "supervisor"),
        _drop("uts-namespace", "account", "seccomp", "capabilities"),
        _drop("ipc-namespace", "account", "seccomp"),
        _drop("net-namespace", "account-programs"),
        _drop("cgroup-namespace", "verifier"),
        _drop("pid-namespace", "parser", "seccomp", "landlock", "user-namespace", "uid"),
        _drop("uid", "parser", "seccomp", "user-namespace"),
        _drop("no-new-privileges", "parser", "seccomp", "landlock", "view", "user-namespace"),
        _drop("mdwe", "parser", "seccomp"),
        _drop("dumpable", "sudoers"),
        _drop("rlimits", "parser"),
        _drop("cgroup", "parser"),
        _drop("parent-death", "account"),
        _drop("environment", "parser"),
        _drop("table", "parser"),
        _drop("descriptors", "parser"),
        _drop("message-limits", "parser"),
    )
)
