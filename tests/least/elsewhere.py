# SPDX-License-Identifier: Apache-2.0
"""Owns the grants that only another machine than any lab can show to be needed: each with which machine, and why.

A mark that no policy has any more is an error, as is one for a single kind that an experiment shows to be needed here.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from tests.least.grants import Grant


class Mark(NamedTuple):
    """`kinds` may begin with `*`; `machine` is the architecture on which it can't be shown, empty for any.

    `luck`: it is needed here, too, now and then."""

    kinds: str
    what: str
    name: str
    why: str
    machine: str = ""
    luck: bool = False

    def fits(self, grant: Grant) -> bool:
        named = self.kinds in {"*", grant.kind} or (self.kinds[:1] == "*" and grant.kind.endswith(self.kinds[1:]))
        return named and (grant.what, grant.name) == (self.what, self.name)


SELINUX = (
    "SELinux: the tools ask the kernel's module there and write to their own files of /proc; no lab has that module"
)
SMALL = (
    "custom-data",
    "custom-data-here",
    "egress",
    "forwarder",
    "handler-start",
    "jit-account",
    "labels",
    "opener",
    "policy-compiler",
    "redirect",
    "sshd-reload",
    "verifier",
    "waagent-policy",
    "wire-socket",
    "witness",
)
MEMORY = "CPython maps new memory when what the fork brought is full, which is another matter with each version"
MARKS = (
    Mark("spawner", "path", "/", "It is not applied: whoever is under Landlock may not mount"),
    Mark(
        "supervisor",
        "call",
        "pidfd_open",
        "It holds on to the peer of a control connection; without, that one is known by a number that may be reused",
    ),
    Mark(
        "supervisor",
        "path",
        "/run/systemd/system",
        "Where systemd runs the custom data is a service of its, and run levels say nothing of cloud-init",
    ),
    Mark("*-programs", "access", "/lib rx, not ro", "aarch64: the program loader lies in /lib", "x86_64"),
    Mark("account-programs", "path", "/proc", SELINUX),
    Mark("account-programs", "path", "/sys/fs/selinux", SELINUX),
    Mark("password-programs", "path", "/proc", SELINUX),
    Mark("password-programs", "path", "/sys/fs/selinux", SELINUX),
    Mark("password-programs", "family", "netlink", "Builds of chpasswd with an audit socket give up without one"),
    Mark(
        "storage",
        "path",
        "/etc/crypto-policies",
        "OpenSSL there is built to read what TLS may be from it, and takes its own defaults where it is missing",
    ),
    *(Mark(kind, "calls", "memory", MEMORY, luck=True) for kind in SMALL),
    Mark("home-keys", "call", "stat", "C libraries before 2.33 look at files by this name"),
    Mark("home-keys", "call", "lstat", "C libraries before 2.33 look at files by this name"),
    Mark("*", "calls", "newer", "Newer C libraries and Pythons than this machine's call these, and do without"),
)


def reason(grant: Grant) -> str:
    """Why `grant` is kept though no experiment here needs it; empty when there is no such reason."""
    return next((mark.why for mark in MARKS if mark.fits(grant)), "")


def stale(grants: Iterable[Grant], needed: Iterable[Grant], machine: str) -> Iterator[str]:
    """Marks that mean nothing in the policies as they are, or that an experiment has overtaken."""
    grants, needed = list(grants), list(needed)
    for mark in MARKS:
        if not any(map(mark.fits, grants)):
            yield f"no policy has {mark.kinds}: {mark.what} {mark.name}"
        elif mark.kinds[:1] != "*" and not mark.luck and mark.machine in {"", machine} and any(map(mark.fits, needed)):
            yield f"{mark.kinds}: {mark.what} {mark.name} is marked, and needed here all the same"
