# SPDX-License-Identifier: Apache-2.0
"""Owns the opener's way to the host's OpenSSL: one typed request to its companion, one memfd filled by the program.

Runs in the opener, which starts nothing itself. It must never put into an error what a program was given or gave.
"""

import os
import re
from collections.abc import Callable

from ipc.errors import InputError, UnpermittedMessage
from ipc.messages import Message, ProgramEnded, ProgramFailed
from workers.companion import Ask

MOST_OUTPUT_BYTES = 2 * 1024 * 1024
# What OpenSSL prints of an algorithm that it does not have, or that its configuration refuses.
_ALGORITHM = re.compile(r"Algorithm \(([A-Za-z0-9.-]{1,40})")

# A request with its descriptors, which stay the caller's; how the program ended, and what it has written.
Run = Callable[[Message, tuple[int, ...]], tuple[ProgramEnded, bytes]]


def lacking(ended: ProgramEnded) -> str:
    """Which algorithm this OpenSSL does not have, as the end of a sentence; empty if that is not what it said."""
    found = _ALGORITHM.search(ended.text)
    return f": this machine's OpenSSL has no {found[1]}" if found else ""


def run(ask: Ask, request: Message, descriptors: tuple[int, ...]) -> tuple[ProgramEnded, bytes]:
    """InputError when the program can't be run, or takes too long."""
    output = os.memfd_create("opened", os.MFD_CLOEXEC)
    try:
        answer = ask(request, (*descriptors, output))
        if isinstance(answer, ProgramFailed):
            raise InputError("OpenSSL", answer.problem)
        if not isinstance(answer, ProgramEnded):
            raise UnpermittedMessage(f"{type(answer).__name__} says nothing about a program")
        if answer.timed_out:
            raise InputError("OpenSSL", "was killed: not finished in time")
        return answer, _content(output)
    finally:
        os.close(output)


def _content(output: int) -> bytes:
    size = os.fstat(output).st_size
    if size > MOST_OUTPUT_BYTES:
        raise InputError("OpenSSL", f"wrote {size} bytes, over the limit of {MOST_OUTPUT_BYTES}")
    content = bytearray()
    while piece := os.pread(output, size - len(content), len(content)):
        content += piece
    return bytes(content)
