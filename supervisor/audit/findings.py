# SPDX-License-Identifier: Apache-2.0
"""Owns the shape of an audit's result, which docs/audit.schema.json publishes; data only.

Fields are added, never renamed or taken away, within one `version`.
"""

from typing import Literal

import msgspec

VERSION = 1
# ok: as written. red: not. unseen: nothing shows it here, `note` says why. absent: written, and this kernel has no such
# mechanism. not-applied: written as a description, and the agent does not enforce it on this process; `note` says why.
Verdict = Literal["ok", "red", "unseen", "absent", "not-applied"]


class Finding(msgspec.Struct, frozen=True):
    """One difference: what is, what is written, and where; `thread` where it is one thread's."""

    found: str
    written: str
    where: str
    thread: int | None = None


class Check(msgspec.Struct, frozen=True):
    """One group of facts of one subject. `findings` is empty unless `verdict` is red."""

    name: str
    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    note: str = ""


class Subject(msgspec.Struct, frozen=True):
    """A process with so many threads, or what belongs to the machine as a whole (`pid` and `threads` 0)."""

    name: str
    kind: str
    pid: int
    threads: int
    checks: tuple[Check, ...]

    @property
    def red(self) -> tuple[Check, ...]:
        return tuple(check for check in self.checks if check.verdict == "red")


class Report(msgspec.Struct, frozen=True):
    """One look at one machine. `policy` is the digest of the policy on disk; `time` in seconds since 1970."""

    version: int
    time: float
    kernel: str
    deep: bool
    policy: str
    subjects: tuple[Subject, ...]
    notes: tuple[str, ...] = ()

    def count(self, verdict: Verdict) -> int:
        """How many checks came out so."""
        return sum(check.verdict == verdict for subject in self.subjects for check in subject.checks)


def check(name: str, findings: "list[Finding]", note: str = "") -> Check:
    """A check with these findings: red if there are any."""
    return Check(name, "red" if findings else "ok", tuple(findings), note)
