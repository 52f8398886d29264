# SPDX-License-Identifier: Apache-2.0
"""Owns what an attempt came to, and what that means: stopped and by what, granted, or a hole. Pure.

Runs in `prove`. A case counts as stopped only if the same probe succeeds without confinement in the same run.
"""

import signal
from collections.abc import Sequence
from typing import Literal

import msgspec

from supervisor.prove.catalogue import Attack

State = Literal["stopped", "granted", "succeeded", "not applicable", "broken"]
# What each error is the sign of. The first of the attack's own controls that is among them is said to have stopped it.
SIGNS = {
    "SIGSYS": ("seccomp",),
    "ENOSYS": ("seccomp",),
    "SIGKILL": ("cgroup", "parent-death", "pid-namespace"),
    "ENOMEM": ("cgroup", "rlimits"),
    "EAGAIN": ("cgroup", "rlimits"),
    "EMFILE": ("rlimits",),
    "EFBIG": ("rlimits",),
    "EROFS": ("view",),
    "ENETUNREACH": ("net-namespace",),
    "ECONNREFUSED": ("net-namespace", "view"),
    "ESRCH": ("pid-namespace",),
    "ENOENT": ("view", "environment", "ipc-namespace", "net-namespace", "cgroup-namespace"),
    "EACCES": ("landlock", "mdwe", "uid", "capabilities", "view"),
    "EPERM": ("landlock", "mdwe", "dumpable", "capabilities", "user-namespace", "no-new-privileges", "uid"),
    "EINVAL": ("user-namespace", "capabilities"),
    "ELOOP": ("view",),
    "EBADF": ("file-modes",),
    "EXDEV": ("view", "landlock"),
}
# A filter kills by the one, the kernel by the other; whoever ends otherwise has come upon a fault of its own.
ENDS = (signal.SIGSYS, signal.SIGKILL)


class Ended(msgspec.Struct, frozen=True):
    """One attempt: "succeeded", "denied" with the error, "killed" with the signal, or "broken" with what happened."""

    how: Literal["succeeded", "denied", "killed", "broken"]
    sign: str = ""


class Verdict(msgspec.Struct, frozen=True):
    """One case against one kind. `control` is what stopped it, as far as its sign tells; `detail` the sign, or the
    grant in words; `bare` how the same probe ended without confinement."""

    attack: str
    kind: str
    state: State
    control: str
    detail: str
    bare: str


def read_end(words: Sequence[str], status: int, log: str) -> Ended:
    """What the attacker's own words, the first of which is that it begins, and its wait status come to."""
    last = words[-1].split() if words else []
    match last:
        case ["succeeded"]:
            return Ended("succeeded")
        case ["denied", sign]:
            return Ended("denied", sign)
        case ["broken:", *_]:
            return Ended("broken", words[-1])
    if words and status > 0 and status & 0x7F in ENDS:
        return Ended("killed", signal.Signals(status & 0x7F).name)
    return Ended("broken", f"status {status}: {log[-300:] or 'without a word'}")


def judge(attack: Attack, kind: str, grant: str, confined: Ended, bare: Ended) -> Verdict:
    """What an attempt in its confinement means beside the same one without; `grant` is what makes it the kind's right,
    empty if nothing does."""

    def verdict(state: State, control: str, detail: str) -> Verdict:
        return Verdict(attack.id, kind, state, control, detail, _text(bare))

    broken = next((end for end in (confined, bare) if end.how == "broken"), None)
    if broken is not None:
        return verdict("broken", "", broken.sign)
    if confined.how == "succeeded":
        return verdict("granted", "", grant) if grant else verdict("succeeded", "", "beyond its policy")
    if bare.how != "succeeded":
        return verdict("not applicable", "", f"unconfined: {_text(bare)}")
    if confined.sign == "SIGKILL" and not set(SIGNS["SIGKILL"]) & set(attack.controls):
        return verdict("broken", "", "it hung, and was killed by us")
    return verdict("stopped", inferred(attack.controls, confined.sign), confined.sign)


def inferred(controls: Sequence[str], sign: str) -> str:
    """The control of these that `sign` speaks for; the first of all where it speaks for none."""
    signs = SIGNS.get(sign, ())
    return next((control for control in controls if control in signs), controls[0])


def _text(end: Ended) -> str:
    return f"{end.how} {end.sign}".strip()
