# SPDX-License-Identifier: Apache-2.0
"""Owns who the process is, in a unit's words: ids, capabilities, secure bits, no-new-privileges."""

from collections.abc import Iterator

from policy.facts import Facts
from policy.units.directive import Directive, Line, Remark, listed, yes


def identity(facts: Facts) -> Iterator[Line]:
    """User to umask. An instance after the first has the next uid."""
    uid, count = facts.profile.identity.uid, facts.profile.identity.count
    if count > 1:
        yield Remark(f"The first of {count} uids, {uid} to {uid + count - 1}: no two instances share one.")
    yield Directive("User", str(uid))
    yield Directive("Group", str(uid))
    yield Directive("SupplementaryGroups", "")
    held = [f"CAP_{name.upper()}" for name in sorted(facts.profile.capability_names)]
    yield listed("CapabilityBoundingSet", held)
    if not facts.locked:
        return
    kept = [f"CAP_{name.upper()}" for name in sorted(facts.profile.ambient_names)]
    yield listed("AmbientCapabilities", kept)
    yield yes("NoNewPrivileges")
    yield _secure_bits(facts)
    yield Directive("UMask", "0077")


def keys_and_objects(facts: Facts) -> Iterator[Line]:
    """What outlives a process in the kernel."""
    if not facts.may("keyctl", "add_key", "request_key"):
        yield Directive("KeyringMode", "private", "System calls: none that reaches a keyring")
    if "ipc" in facts.profile.namespaces.new:
        yield yes("PrivateIPC")
        yield yes("RemoveIPC", "Its objects end with its IPC namespace")


def _secure_bits(facts: Facts) -> Directive:
    """As supervisor.jail.capabilities sets them; systemd has no word for the ambient set's own bit."""
    bits = ["noroot", "noroot-locked", "no-setuid-fixup-locked", "keep-caps-locked"]
    if not facts.has("setuid"):
        bits.insert(2, "no-setuid-fixup")
    return listed("SecureBits", bits)
