# SPDX-License-Identifier: Apache-2.0
"""Copies the one file that its view holds, for whoever has to know what is in it.

Runs in the waagent-policy worker, as root without a capability: an administrator may have made the file root's alone.
It does not look into it.
"""

import os
import stat
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from ipc.channel import Channel
from ipc.descriptors import close_all, sealed_memfd
from ipc.messages import ReadWaagentPolicy, WaagentPolicyRead
from ipc.messages.waagent_policy import MOST_POLICY_BYTES
from workers.runtime import Answer, serve_once

NO_FILE = "it is no file, expected a regular one"


def on_read(root: Path, _: ReadWaagentPolicy, descriptors: tuple[int, ...]) -> Iterable[Answer]:
    """The file below `root`, as a sealed copy."""
    close_all(descriptors)
    content, answer = b"", WaagentPolicyRead(is_there=False)
    try:
        if (path := _found(root)) is not None:
            content, answer = _content(path), WaagentPolicyRead(is_there=True)
    except OSError as error:
        answer = WaagentPolicyRead(is_there=True, problem=f"it can't be read: {error.strerror}")
    except ValueError as error:
        answer = WaagentPolicyRead(is_there=True, problem=str(error))
    yield answer, (sealed_memfd("waagent-policy", content),)


def _found(root: Path) -> Path | None:
    """What the view holds, by folders with one entry each; None if it holds nothing. ValueError for another folder."""
    path = root
    while path.is_dir():
        entries = list(path.iterdir())
        if path == root and not entries:
            return None
        if len(entries) != 1:
            raise ValueError(NO_FILE)
        path = entries[0]
    return path


def _content(path: Path) -> bytes:
    # O_NONBLOCK: a pipe would keep us waiting.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(NO_FILE)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(MOST_POLICY_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(content) > MOST_POLICY_BYTES:
        raise ValueError(f"it is larger than {MOST_POLICY_BYTES} bytes")
    return content


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry (workers.runtime)."""
    serve_once(channel, lock, {ReadWaagentPolicy: partial(on_read, Path("/"))})
