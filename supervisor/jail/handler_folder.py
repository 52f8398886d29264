# SPDX-License-Identifier: Apache-2.0
"""Owns the folder of one command as its warden has it: the order read, the beginning noted, the result left there.

Runs in the warden, which starts anew for each command: what takes long to load is left out. The files are root's alone.
"""

import os

import msgpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from supervisor.jail.handler_order import HandlerOrder

ORDER, STARTED, RESULT = "order", "started", "result"
MOST_BYTES = 256 * 1024
# Of what a command prints this much is kept, and told (extensions.md 8.1).
MOST_OUTPUT = 3200


class Read:
    """What was written as a HandlerOrder, field by field."""

    def __init__(self, fields: "dict[str, object]") -> None:
        self.__dict__.update(fields)


def read_order(folder: str) -> "HandlerOrder":
    """OSError, ValueError."""
    descriptor = os.open(f"{folder}/{ORDER}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        return Read(msgpack.unpackb(os.read(descriptor, MOST_BYTES)))  # type: ignore[return-value] # the same fields
    finally:
        os.close(descriptor)


def begin(folder: str) -> None:
    """From here on it counts as run, whatever comes. FileExistsError when it did before."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    os.close(os.open(f"{folder}/{STARTED}", flags, 0o600))
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    os.fsync(held)
    os.close(held)


def write_result(folder: str, **fields: object) -> None:
    """Those of a HandlerResult. OSError."""
    write_whole(folder, RESULT, msgpack.packb(fields))


def write_whole(folder: str, name: str, content: bytes) -> None:
    """Have it there, whole or not at all; not on disk, for a boot makes it meaningless. OSError."""
    path = f"{folder}/{name}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(f"{path}.new", flags, 0o600)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
    finally:
        os.close(descriptor)
    os.rename(f"{path}.new", path)
