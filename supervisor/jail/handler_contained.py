# SPDX-License-Identifier: Apache-2.0
"""Owns what systemd leaves to us of a contained command: an account of the handler's own, and what it may touch.

Runs in the child that becomes the command, in the unit that systemd has confined. What is laid down stays root's, for
us to write and remove; a group of the handler's own reads it, and writes where vendors expect to.
"""

import os
import stat

from supervisor.jail import handler_capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from supervisor.jail.handler_order import HandlerOrder

_PATH = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
# What the handler makes in such a folder is its own; what is root's there, it can't take away.
OPEN_FOLDER, READ_FILE, RUN_FILE = 0o1770, 0o640, 0o750
MOST_DEPTH = 32


def enter(order: "HandlerOrder", keys_in: str) -> None:
    """Give the handler's group its files, and become the handler's account for good. OSError."""
    for folder in (*(f"{order.lib}/{name}" for name in order.folders), f"{order.log_folder}/{order.handler}"):
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        _give(place, order.uid, MOST_DEPTH)
        os.close(place)
    for name in os.listdir(keys_in):
        if name.startswith(f"{order.thumbprint}.") and order.thumbprint:
            os.chown(f"{keys_in}/{name}", 0, order.uid)
            os.chmod(f"{keys_in}/{name}", READ_FILE)
    handler_capabilities.drop(range(64))
    os.setgroups(())
    os.setresgid(order.uid, order.uid, order.uid)
    # Whatever else this process could, it can't any more.
    os.setresuid(order.uid, order.uid, order.uid)


def _give(folder: int, group: int, depth: int) -> None:
    """What is root's in `folder`, and nothing that has another name elsewhere, can be read by `group`."""
    _open_to(folder, group, OPEN_FOLDER)
    for name in os.listdir(folder):
        place = os.open(name, _PATH, dir_fd=folder)
        try:
            facts = os.fstat(place)
            if facts.st_uid != 0:
                continue
            if stat.S_ISDIR(facts.st_mode) and depth:
                inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
                _give(inner, group, depth - 1)
                os.close(inner)
            elif stat.S_ISREG(facts.st_mode) and facts.st_nlink == 1:
                _open_to(place, group, RUN_FILE if facts.st_mode & stat.S_IXUSR else READ_FILE)
        finally:
            os.close(place)


def _open_to(place: int, group: int, mode: int) -> None:
    path = f"/proc/self/fd/{place}"
    os.chown(path, 0, group)
    os.chmod(path, mode)
