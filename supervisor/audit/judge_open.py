# SPDX-License-Identifier: Apache-2.0
"""Owns the comparison of what a process holds open, type by type, and of its sockets' families. Pure."""

from supervisor.audit.expected import Expected
from supervisor.audit.facts import Process
from supervisor.audit.findings import Check, Finding, check

_OUTSIDE = frozenset({"inet", "inet6", "packet", "netlink"})


def descriptors(expected: Expected, process: Process) -> Check:
    """No type that its policy does not name."""
    allowed = expected.profile.descriptors.types
    found = [
        Finding(f"{one.number} is {one.type}: {one.target}", " ".join(allowed), expected.where("descriptors.types"))
        for one in process.descriptors
        if one.type not in allowed
    ]
    return check("descriptors", found)


def sockets(expected: Expected, process: Process) -> Check:
    """No family that its policy does not name; and who reaches outside holds no right to change the machine."""
    profile = expected.profile
    # AF_UNIX is inherited even by those that may not make one: what they speak by was made before them.
    allowed = {*profile.families.names, *profile.families.handed, "unix"}
    where = expected.where("families.names")
    found = [
        Finding(f"{one.number} is a socket of family {one.family} ({one.protocol})", " ".join(sorted(allowed)), where)
        for one in process.descriptors
        if one.family and one.family not in allowed
    ]
    outside = [one for one in process.descriptors if one.family in _OUTSIDE]
    if outside and "sys_admin" in profile.capability_names:
        said = f"{outside[0].number} reaches outside, and it holds CAP_SYS_ADMIN"
        found.append(Finding(said, "never both", "docs/architecture.md"))
    return check("sockets", found)
