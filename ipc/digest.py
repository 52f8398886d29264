# SPDX-License-Identifier: Apache-2.0
"""Owns SHA-256 for resident processes: the interpreter's own, since hashlib would map all of OpenSSL (4 MiB)."""

from collections.abc import Iterable
from importlib import import_module
from typing import Any


def sha256_hex(pieces: Iterable[bytes]) -> str:
    """The digest of all `pieces` one after the other, in lower-case hex."""
    state = _new()
    for piece in pieces:
        state.update(piece)
    return str(state.hexdigest())


def _new() -> Any:
    """CPython renamed the module in 3.12; other interpreters have hashlib alone."""
    for module in ("_sha2", "_sha256", "hashlib"):
        try:
            return import_module(module).sha256()
        except ImportError:
            continue
    raise ImportError("this interpreter has no SHA-256")
