# SPDX-License-Identifier: Apache-2.0
"""Owns to whom the folder of a worker's listening socket belongs, and its end; runs in the spawner.

The supervisor makes folder and socket and can give neither away: it holds no capability. It must never follow a link.
"""

import os
import stat
from contextlib import suppress
from importlib import import_module

from ipc.errors import AgentError
from supervisor.jail.beneath import open_beneath

SOCKET = "s"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class NotAChannel(AgentError):
    """What is there is not a folder with one listening socket in it."""


def give(path: str, uid: int) -> None:
    """Make the folder `path` and the socket in it `uid`'s. NotAChannel when it is anything else, OSError if absent."""
    folder = _open(path)
    try:
        inner = open_beneath(folder, SOCKET, os.O_PATH)
        try:
            status = os.fstat(inner)
            # What is judged is what is given away, whatever has its name by then; not a second name of another file.
            if os.listdir(folder) != [SOCKET] or not stat.S_ISSOCK(status.st_mode) or status.st_nlink != 1:
                raise NotAChannel(f"{path} holds something else than one socket")
            os.chown(f"/proc/self/fd/{inner}", uid, uid)
        finally:
            os.close(inner)
        os.fchown(folder, uid, uid)
    finally:
        os.close(folder)


def take_away(path: str) -> None:
    """Remove the folder `path` and what its worker left in it; nothing happens if it is not there. OSError else."""
    with suppress(FileNotFoundError):
        folder = _open(path)
        try:
            for name in os.listdir(folder):
                os.unlink(name, dir_fd=folder)
        except IsADirectoryError:
            # No worker of ours makes one; whoever took one over and did is not followed to any depth.
            for _ in import_module("ipc.removal").empty(path):
                pass
        finally:
            os.close(folder)
        parent, _, name = path.rpartition("/")
        above = _open(parent)
        try:
            os.rmdir(name, dir_fd=above)
        finally:
            os.close(above)


def sweep(channels: str) -> None:
    """Remove all folders that an earlier life of the agent left in `channels`."""
    with suppress(FileNotFoundError):
        for name in os.listdir(channels):
            take_away(f"{channels}/{name}")


def _open(path: str) -> int:
    """The folder `path`, by way of no link at any part of it: the supervisor may write to the folders above."""
    folder = os.open("/", _FOLDER)
    for part in path.strip("/").split("/"):
        above = folder
        try:
            folder = open_beneath(above, part, _FOLDER)
        finally:
            os.close(above)
    return folder
