# SPDX-License-Identifier: Apache-2.0
"""Owns what a probe has in its hands, and how it makes an attempt; runs in the attacking process.

A probe is a function that raises OSError when it is denied. It must do no harm where it is permitted.
"""

import errno
import os
from collections.abc import Callable, Mapping

import msgspec

from ipc.channel import Channel

Value = int | str | tuple[int | str, ...]
# The words by which an attacking process tells what became of its attempt, on its standard error.
SAYS = b"prove: "
BEGINS = b"begins"


class Target(msgspec.Struct, frozen=True):
    """`file` and `folder` are descriptors for reading of what only root may open; `channel` is the worker's own, if it
    has one; `arguments` are the catalogue's, with the decoys filled in."""

    arguments: Mapping[str, Value]
    permitted: tuple[str, ...] = ()
    file: int = -1
    folder: int = -1
    channel: Channel | None = None

    def word(self, name: str) -> str:
        return str(self.arguments[name])

    def number(self, name: str) -> int:
        return int(self.word(name), 0)


Probe = Callable[[Target], object]


class NotSeen(OSError):
    """The attempt came through and found nothing of what it was after."""

    def __init__(self, what: str) -> None:
        super().__init__(errno.ENOENT, what)


def outcome(probe: Probe, target: Target) -> bytes:
    """One line: "succeeded", or "denied ERRNO"; an error that only the permitted get is a success."""
    try:
        probe(target)
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0, "EIO")
        return b"succeeded" if name in target.permitted else f"denied {name}".encode()
    except MemoryError:
        return b"denied ENOMEM"
    return b"succeeded"


def say(words: bytes) -> None:
    """One line for whoever started this process."""
    os.write(2, SAYS + words + b"\n")
