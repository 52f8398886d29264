# SPDX-License-Identifier: Apache-2.0
"""Owns who may sign packages: the authorities that this machine's owner has put into a folder of root's.

Runs in the supervisor, before it closes its files; what is put there later counts from the next start on.
"""

import os
import stat

import msgspec

FOLDER = "/etc/agent-supervisor/trust.d"
ENDINGS = (".pem", ".crt")
MOST_BYTES = 1024 * 1024
_BEGIN = b"-----BEGIN CERTIFICATE-----"


class Anchors(msgspec.Struct, frozen=True):
    """Certificates in PEM, one after the other, and what is wrong with files that are none."""

    pem: bytes = b""
    problems: tuple[str, ...] = ()


def read(folder: str = FOLDER) -> Anchors:
    """Every file there with a name that ends so. One that can't be used is left out, and told."""
    pieces, problems = [], []
    for name in sorted(name for name in _names(folder) if name.endswith(ENDINGS)):
        path = f"{folder}/{name}"
        try:
            content = _content(path)
            if _BEGIN not in content:
                raise ValueError("holds no certificate in PEM")
            pieces.append(content.rstrip() + b"\n")
        except (OSError, ValueError) as error:
            told = error.strerror if isinstance(error, OSError) else error
            problems.append(f"{path} {told}: nobody is trusted because of it")
    pem = b"".join(pieces)
    if len(pem) > MOST_BYTES:
        return Anchors(b"", (*problems, f"{folder} holds more than {MOST_BYTES} bytes: nobody in it is trusted"))
    return Anchors(pem, tuple(problems))


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _content(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_BYTES:
            raise ValueError(f"is no file of at most {MOST_BYTES} bytes")
        if status.st_uid != 0 or status.st_mode & 0o022:
            raise ValueError("is not root's alone to write")
        return os.read(descriptor, MOST_BYTES)
    finally:
        os.close(descriptor)
