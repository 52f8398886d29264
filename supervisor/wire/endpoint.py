# SPDX-License-Identifier: Apache-2.0
"""Owns the question where the WireServer is, as far as a file can tell (wire-protocol.md 1.1).

Runs in the supervisor, at start. It must never trust the file's name or content further than one IPv4 address.
"""

import os
import socket
import stat

import msgspec

WIRE_SERVER = "168.63.129.16"
_FILE_NAME = "WireServerEndpoint"
_LONGEST_BYTES = 64
_FIRST_MULTICAST = 224


class Endpoint(msgspec.Struct, frozen=True):
    """`address` is an IPv4 unicast address; `why` is half a sentence for the log."""

    address: str
    why: str


def saved_endpoint(lib_dir: str | os.PathLike[str]) -> Endpoint:
    """The address that an earlier run saved below `lib_dir`; else the platform's own, right nearly everywhere."""
    # No Path of our own: pathlib brings urllib into a process that lives as long as the machine.
    path = os.path.join(lib_dir, _FILE_NAME)
    try:
        text = _read(path)
    except FileNotFoundError:
        return Endpoint(WIRE_SERVER, "the platform's address: none is saved")
    except (OSError, ValueError) as error:
        return Endpoint(WIRE_SERVER, f"the platform's address: {path} is unreadable ({error})")
    if not is_unicast(text):
        return Endpoint(WIRE_SERVER, f"the platform's address: {path} holds no IPv4 address")
    return Endpoint(text, f"saved in {path}")


def is_unicast(text: str) -> bool:
    """Whether `text` is one dotted IPv4 address of a single host."""
    try:
        return 0 < socket.inet_pton(socket.AF_INET, text)[0] < _FIRST_MULTICAST
    except (OSError, ValueError):
        return False


def _read(path: str) -> str:
    # Not through a link, and without waiting for the writer of a pipe.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("not a regular file")
        return os.read(descriptor, _LONGEST_BYTES).decode("ascii").strip()
    finally:
        os.close(descriptor)
