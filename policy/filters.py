# SPDX-License-Identifier: Apache-2.0
"""Owns the making of system-call filter programs, through libseccomp; runs at build time and in the sealed compiler."""

import errno
import os

import pyseccomp

from ipc.errors import ConfigError
from policy.groups import CallSet

_UNKNOWN = -1
_OTHERWISE = {"kill": pyseccomp.KILL_PROCESS, "enosys": pyseccomp.ERRNO(errno.ENOSYS)}
_ANSWERS = {"allow": pyseccomp.ALLOW, "enosys": pyseccomp.ERRNO(errno.ENOSYS)}


def number(name: str, source: str) -> int | None:
    """The number of call `name` here, None if this machine has no such call; ConfigError if no machine has."""
    found = int(pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name))
    if found == _UNKNOWN:
        raise ConfigError(source, f"no system call is named {name}")
    return found if found >= 0 else None


def program(calls: CallSet, source: str) -> bytes:
    """The filter as an array of struct sock_filter. Calls by another architecture's convention end the process."""
    building = pyseccomp.SyscallFilter(_OTHERWISE[calls.otherwise])
    building.set_attr(pyseccomp.Attr.ACT_BADARCH, pyseccomp.KILL_PROCESS)
    for name in sorted(calls.allowed):
        if (allowed := number(name, source)) is not None:
            building.add_rule(pyseccomp.ALLOW, allowed)
    for name in sorted(calls.enosys):
        # libseccomp takes no rule that says what the default says.
        if (refused := number(name, source)) is not None and calls.otherwise != "enosys":
            building.add_rule(_ANSWERS["enosys"], refused)
    for only in calls.only:
        judged = number(only.name, source)
        if judged is None or only.answer == calls.otherwise:
            continue
        for value in only.values:
            argument = pyseccomp.Arg(only.argument, pyseccomp.MASKED_EQ, only.mask, value)
            building.add_rule_exactly(_ANSWERS[only.answer], judged, argument)
    # No temporary file: the sealed compiler of overrides has no file system.
    with os.fdopen(os.memfd_create("filter"), "r+b") as file:
        building.export_bpf(file)
        file.seek(0)
        return file.read()
