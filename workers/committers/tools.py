# SPDX-License-Identifier: Apache-2.0
"""Owns how a committer starts one of the distribution's programs: fixed folders, an environment from nothing, no shell.

Runs in committers. It must never put a secret into an argument list or into the text of an error.
"""

import os
import select
import signal
import subprocess
from collections.abc import Sequence
from io import FileIO
from typing import NamedTuple

from ipc.errors import CommitError

FOLDERS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
OUTPUT_LIMIT = 600
TEXT_LIMIT = 64 * 1024


class Outcome(NamedTuple):
    """How a program ended: exit status (negative: the signal) and what it printed, on either output, as it stood."""

    status: int
    text: str

    @property
    def output(self) -> str:
        """The start of it in one printable line."""
        line = " ".join(self.text.split())
        return "".join(character for character in line if character.isprintable())[:OUTPUT_LIMIT]


class Tools:
    """The programs that committers may start, searched in `folders` only; each gets `patience_s` to finish."""

    def __init__(self, folders: Sequence[str] = FOLDERS, patience_s: float = 25) -> None:
        self._folders = tuple(folders)
        self._patience_s = patience_s

    def find(self, name: str) -> str | None:
        """The absolute path of program `name`, or None when this system has none."""
        paths = (f"{folder}/{name}" for folder in self._folders)
        return next((path for path in paths if os.access(path, os.X_OK)), None)

    def run(self, name: str, *arguments: str, stdin: bytes = b"") -> Outcome:
        """Run `name` to its end. CommitError when it is missing, can't be started, or takes too long and is killed.

        Input and output are unnamed files: a program that neither reads nor stops writing can't block the committer."""
        path = self.find(name)
        if path is None:
            raise CommitError(f"program {name} is not installed")
        with _unnamed_file(stdin) as source, _unnamed_file(b"") as sink:
            try:
                process = subprocess.Popen(
                    [path, *arguments],
                    stdin=source,
                    stdout=sink,
                    stderr=sink,
                    env={"PATH": ":".join(FOLDERS), "LC_ALL": "C"},
                    cwd="/",
                    umask=0o022,
                    process_group=0,
                )
            except OSError as error:
                raise CommitError(f"program {path} does not start: {error.strerror}") from None
            status = self._wait(process, name)
            return Outcome(status, os.pread(sink.fileno(), TEXT_LIMIT, 0).decode("utf-8", "replace"))

    def run_well(self, name: str, *arguments: str, stdin: bytes = b"") -> Outcome:
        """As `run`, but any exit status except 0 is a CommitError with the program's own words."""
        outcome = self.run(name, *arguments, stdin=stdin)
        if outcome.status != 0:
            raise CommitError(f"{name} ended with status {outcome.status}: {outcome.output or 'no output'}")
        return outcome

    def _wait(self, process: "subprocess.Popen[bytes]", name: str) -> int:
        pidfd = os.pidfd_open(process.pid)
        try:
            poller = select.poll()
            poller.register(pidfd, select.POLLIN)
            if not poller.poll(int(self._patience_s * 1000)):
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise CommitError(f"{name} was killed: not finished after {self._patience_s:g} s")
        finally:
            os.close(pidfd)
        return process.wait()


def _unnamed_file(content: bytes) -> FileIO:
    file = FileIO(os.memfd_create("committer", os.MFD_CLOEXEC), "r+")
    file.write(content)
    file.seek(0)
    return file
