# SPDX-License-Identifier: Apache-2.0
"""Owns reading and writing the kernel's small control files (cgroup, /proc); used by the jail; interprets nothing."""

import os


def write(path: str, text: str) -> None:
    """Write `text` in one call to a file that exists; OSError when the kernel refuses it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def try_write(path: str, text: str) -> bool:
    """Like `write`; False when the file is not there or refuses."""
    try:
        write(path, text)
    except OSError:
        return False
    return True


def read(path: str) -> str:
    """The whole text; empty when the file is not there or its group is gone."""
    pieces = []
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            while piece := os.read(descriptor, 65536):
                pieces.append(piece)
        finally:
            os.close(descriptor)
    except OSError:
        return ""
    return b"".join(pieces).decode("utf-8", "replace")


def number(path: str) -> int:
    """The number that the file holds, 0 when there is none."""
    text = read(path).strip()
    return int(text) if text.isdigit() else 0


def field(path: str, name: str) -> int:
    """The number after `name` in a file of `name number` lines, 0 when there is none."""
    pairs = (line.partition(" ") for line in read(path).splitlines())
    return next((int(value) for key, _, value in pairs if key == name), 0)
