# SPDX-License-Identifier: Apache-2.0
"""Owns how one of the distribution's programs is run: fixed folders, an environment from nothing, no shell.

Runs in companions. It must never put a secret into an argument list or into the text of an error.
"""

import os
import select
import signal
import subprocess
from collections.abc import Iterable, Sequence
from io import FileIO
from typing import IO, Any

from ipc.errors import CommitError
from ipc.messages.programs import LONGEST_TEXT, ProgramEnded

FOLDERS = ("/usr/sbin", "/usr/bin", "/sbin", "/bin")
PATH = ":".join(FOLDERS)
ENVIRONMENT = {"PATH": PATH, "LC_ALL": "C"}


def find(name: str, folders: Iterable[str] = FOLDERS) -> str:
    """The absolute path of the program `name`, empty when none of `folders` has it."""
    paths = (f"{folder}/{name}" for folder in folders)
    return next((path for path in paths if os.access(path, os.X_OK)), "")


def run(path: str, arguments: Sequence[str], patience_s: float, stdin: int | None = None) -> ProgramEnded:
    """Run the program at `path` to its end; it is killed after `patience_s`. CommitError when it can't be started.

    Input and output are unnamed files: a program that neither reads nor stops writing can't block anybody."""
    with _unnamed_file() as sink:
        process = start(
            [path, *arguments],
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=sink,
            stderr=sink,
            env=ENVIRONMENT,
            process_group=0,
        )
        in_time = wait(process, patience_s)
        return ProgramEnded(process.wait(), _text(sink), timed_out=not in_time)


def start(words: Sequence[str], **how: Any) -> "subprocess.Popen[bytes]":
    """Begin the program `words[0]`; CommitError with the kernel's reason when that fails."""
    try:
        return subprocess.Popen(words, cwd="/", umask=0o022, **how)
    except OSError as error:
        raise CommitError(f"program {words[0]} does not start: {error.strerror}") from None


def wait(process: "subprocess.Popen[bytes]", seconds: float) -> bool:
    """Until `process`, which leads its process group, has ended; False when that whole group was killed instead."""
    pidfd = os.pidfd_open(process.pid)
    try:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        if poller.poll(int(seconds * 1000)):
            return True
        os.killpg(process.pid, signal.SIGKILL)
        return False
    finally:
        os.close(pidfd)


def _unnamed_file() -> IO[bytes]:
    return FileIO(os.memfd_create("output", os.MFD_CLOEXEC), "r+")


def _text(sink: IO[bytes]) -> str:
    """The beginning of what was printed; a byte that is no text takes more room than it had."""
    text = os.pread(sink.fileno(), LONGEST_TEXT, 0).decode("utf-8", "replace")
    return text.encode()[:LONGEST_TEXT].decode("utf-8", "ignore")
