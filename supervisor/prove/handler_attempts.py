# SPDX-License-Identifier: Apache-2.0
"""Owns one attempt of a vendor's command: a line of sh in a process of its own, how it ended, and what it said.

Runs in the command that stands for a handler's (handler_within), and in `prove`, as root without confinement.
"""

import os
import select
import signal
from collections.abc import Mapping

import msgspec

PATIENCE_S = 15.0
MOST_SAID = 200
# `probe` is what a shell can't do by itself; `unit` has systemd run a program in a unit of its own.
PRELUDE = """\
probe() { "$PYTHON" -I -m supervisor.prove.handler_probe "$@"; }
unit() {
  if [ "$1" = probe ]; then shift; set -- "$PYTHON" -I -m supervisor.prove.handler_probe "$@"; fi
  systemd-run --quiet --wait --collect --pipe -- "$@"
}
"""


class Attempt(msgspec.Struct, frozen=True):
    """What to try. `name` is the case's and the way's."""

    name: str
    line: str


class Outcome(msgspec.Struct, frozen=True):
    """How it ended: `reached` for status 0; None when it never ended, or could not be tried. `printed` on the one
    output, `said` on the other, the end of each."""

    name: str
    reached: bool | None
    printed: str = ""
    said: str = ""


def make(attempt: Attempt, environment: Mapping[str, str]) -> Outcome:
    """In a session of its own, ended with its time. OSError when nothing can be started."""
    outputs = [os.memfd_create(name, os.MFD_CLOEXEC) for name in ("printed", "said")]
    child = os.fork()
    if child == 0:
        _become(attempt, environment, outputs)
    try:
        ended = _wait(child)
        printed, said = (_end_of(output) for output in outputs)
    finally:
        for output in outputs:
            os.close(output)
    if ended is None:
        return Outcome(attempt.name, None, printed, f"not done within {PATIENCE_S:g} s")
    return Outcome(attempt.name, ended == 0, printed, said)


def _become(attempt: Attempt, environment: Mapping[str, str], outputs: list[int]) -> None:
    try:
        os.setsid()
        for number, output in enumerate(outputs, 1):
            os.dup2(output, number)
        os.execve("/bin/sh", ["/bin/sh", "-c", f"{PRELUDE}{attempt.line}"], environment)
    finally:
        os._exit(127)


def _wait(child: int) -> int | None:
    """Its exit status; None when its time was over, and it was killed."""
    pidfd = os.pidfd_open(child)
    try:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        in_time = bool(poller.poll(int(PATIENCE_S * 1000)))
    finally:
        os.close(pidfd)
    if not in_time:
        os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) if in_time else None


def _end_of(output: int) -> str:
    size = os.fstat(output).st_size
    text = os.pread(output, 4 * MOST_SAID, max(0, size - 4 * MOST_SAID)).decode("utf-8", "replace").strip()
    last = text.rpartition("\n")[2]
    return "".join(character if character.isprintable() else " " for character in last)[:MOST_SAID]
