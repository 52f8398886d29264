# SPDX-License-Identifier: Apache-2.0
"""Owns memory-deny-write-execute: no page both writable and executable, ever; runs in the child being confined."""

import errno

from supervisor.jail import syscalls
from supervisor.jail.missing import Missing

_PR_SET_MDWE, _REFUSE_EXEC_GAIN = 65, 1


def deny_writable_code() -> None:
    """For good, and for every program that the process starts. Missing("mdwe") before Linux 6.3."""
    try:
        syscalls.prctl(_PR_SET_MDWE, _REFUSE_EXEC_GAIN)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise Missing("mdwe", str(error)) from None
        raise
