# SPDX-License-Identifier: Apache-2.0
"""Owns the policy's source files: which they are, their bytes, their digest; parses nothing.

Used by the compiler at build time, and by the loader in every process that loads the policy.
"""

import os
from collections.abc import Mapping

from ipc.digest import sha256_hex

FOLDERS = ("calls", "profiles")


def read_sources(folder: str) -> dict[str, bytes]:
    """Every TOML file of the policy below `folder`, by its relative name; OSError when one can't be read."""
    sources = {}
    for part in FOLDERS:
        for name in sorted(os.listdir(f"{folder}/{part}")):  # noqa: PTH208 - pathlib loads urllib, see supervisor.jail
            if name.endswith(".toml"):
                sources[f"{part}/{name}"] = read_file(f"{folder}/{part}/{name}")
    return sources


def digest(sources: Mapping[str, bytes]) -> str:
    """SHA-256, hex, over names and contents; no two sets of files have the same input."""
    return sha256_hex(f"{name}\0{len(content)}\0".encode() + content for name, content in sorted(sources.items()))


def read_file(path: str) -> bytes:
    """The whole file; OSError when it can't be read."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = []
        while piece := os.read(descriptor, 1 << 20):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(descriptor)
