# SPDX-License-Identifier: Apache-2.0
"""Owns SHA-256 for resident processes: the interpreter's own, since hashlib would map all of OpenSSL (4 MiB)."""

from collections.abc import Callable, Iterable
from functools import cache
from importlib import import_module
from typing import Any


def sha256(pieces: Iterable[bytes]) -> bytes:
    """The digest of all `pieces` one after the other, 32 bytes."""
    state = _implementation()()
    for piece in pieces:
        state.update(piece)
    return bytes(state.digest())


def sha256_hex(pieces: Iterable[bytes]) -> str:
    """The same in lower-case hex."""
    return sha256(pieces).hex()


class Sha256:
    """A digest of pieces that come one after the other."""

    def __init__(self) -> None:
        self._state = _implementation()()

    def update(self, piece: bytes) -> None:
        """Take in `piece`."""
        self._state.update(piece)

    def hex(self) -> str:
        """That of all pieces until now, in lower-case hex."""
        return str(self._state.hexdigest())


@cache
def _implementation() -> Callable[[], Any]:
    """CPython renamed the module in 3.12; other interpreters have hashlib alone. Looked for once: who is confined
    afterwards can't look again."""
    for module in ("_sha2", "_sha256", "hashlib"):
        try:
            made: Callable[[], Any] = import_module(module).sha256
            return made
        except ImportError:
            continue
    raise ImportError("this interpreter has no SHA-256")
