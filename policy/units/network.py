# SPDX-License-Identifier: Apache-2.0
"""Owns the network and the namespaces of a process, in a unit's words."""

from collections.abc import Iterator

from policy.facts import Facts
from policy.units.directive import Directive, Line, Remark, listed, yes

_INTERNET = frozenset({"inet", "inet6"})
_NEW_NAMESPACES = ("unshare", "setns", "clone3")
_CLONE_NEW = 0x7E020000


def network(facts: Facts) -> Iterator[Line]:
    """Its network, and what it may make sockets of."""
    families = facts.profile.families
    alone = "net" in facts.profile.namespaces.new
    if alone:
        yield yes("PrivateNetwork")
    names = [f"AF_{name.upper()}" for name in families.names] if facts.may("socket") else []
    yield listed("RestrictAddressFamilies", names or ["none"])
    if alone:
        yield Directive("IPAddressDeny", "any", "Its own network has no interface that is up")
    elif not _INTERNET & set(families.names):
        yield Directive("IPAddressDeny", "any", "It can make no socket of the internet's")
    elif families.connect_ports and facts.landlock:
        ports = ", ".join(map(str, families.connect_ports))
        yield Remark(f"Landlock: TCP goes to ports {ports} alone. No directive says that.")
        yield Directive("SocketBindDeny", "tcp", "Landlock: it binds no TCP port")


def namespaces(facts: Facts) -> Iterator[Line]:
    """Those that it has to itself, and that it makes no further ones."""
    new = facts.profile.namespaces.new
    if without_word := [name for name in ("cgroup", "pid") if name in new]:
        yield Remark(
            f"New as well, without a directive in most versions of systemd: {', '.join(without_word)} namespace."
        )
    if "mount" in new:
        yield yes("PrivateMounts")
    elif not facts.may("mount", "move_mount", "mount_setattr", "umount2"):
        yield yes("PrivateMounts", "System calls: it can change no mount that others would see")
    if "uts" in new:
        yield yes("ProtectHostname")
    elif not facts.may("sethostname", "setdomainname") and not facts.writes("/proc/sys"):
        yield yes("ProtectHostname", "System calls: none that sets a name; /proc/sys is not written")
    if "user" in new:
        yield yes("PrivateUsers", "Its user namespace has its own uid alone, not root's")
    if not facts.may(*_NEW_NAMESPACES) and _clone_is_judged(facts):
        yield yes("RestrictNamespaces")


def _clone_is_judged(facts: Facts) -> bool:
    """Whether no flag of clone that makes a namespace gets through."""
    rules = [only for only in facts.calls.only if only.name == "clone"]
    judged = all(
        only.mask & _CLONE_NEW == _CLONE_NEW and not any(v & _CLONE_NEW for v in only.values) for only in rules
    )
    return "clone" not in facts.calls.allowed and judged
