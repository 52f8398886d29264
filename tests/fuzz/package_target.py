# SPDX-License-Identifier: Apache-2.0
"""Handlers' packages under fuzz: what the unpacker lets pass, the committer of handlers' files has to find in order."""

import hashlib
import io
import os
import random
import zipfile
from collections.abc import Callable

import msgspec

from ipc.descriptors import sealed_memfd
from ipc.errors import CommitError
from tests.fuzz import byte_mutations
from workers.committers import handler_index
from workers.unpacker.main import unpack
from workers.unpacker.refusal import RefusedPackage

SEED = 20261124
FILES = {
    "HandlerManifest.json": b'[{"version": 1.0}]' * 8,
    "bin/": b"",
    "bin/enable.sh": b"#!/bin/sh\nexec true\n",
    "lib/a/b/data": bytes(range(256)) * 8,
    "nested.zip": b"PK\5\6" + bytes(18),
}
TOKENS = (
    b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"PK\5\6" + bytes(18), b"../", b"/", b"\\", b"./",
    b"\x08\0", b"\x0c\0",
    b"\x0e\0", b"\0\x08", b"\x01\0", b"\xed\x41", b"\xff\xa1", b"\xed\x89",
)  # fmt: skip


class Broken(AssertionError):
    """What was let pass is not in order."""


def made(method: int) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", method) as archive:
        for name, content in FILES.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type, entry.create_system = method, 3
            entry.external_attr = (0o40755 if name.endswith("/") else 0o100644) << 16
            archive.writestr(entry, content)
    return sink.getvalue()


def _package(_: str) -> Callable[[int], str]:
    seeds = [made(method) for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)]

    def attempt(number: int) -> str:
        draw = random.Random(SEED + number)
        seed = draw.choice(seeds)
        return _outcome(seed if number % 20 == 0 else _mutated(seed, draw))

    return attempt


def _mutated(seed: bytes, draw: random.Random) -> bytes:
    """Mostly in the directory and what leads to it: elsewhere nearly every change is a wrong CRC."""
    if draw.random() < 0.3:
        return byte_mutations.mutate(seed, TOKENS, draw)
    directory = seed.index(b"PK\1\2")
    return seed[:directory] + byte_mutations.mutate(seed[directory:], TOKENS, draw)


def _outcome(package: bytes) -> str:
    given, contents = os.memfd_create("package"), os.memfd_create("contents")
    try:
        os.write(given, package)
        try:
            index, manifest, digest = unpack(given, contents, 100, 1 << 20)
        except RefusedPackage as refused:
            if not str(refused).isprintable() or len(str(refused)) > 900:
                raise Broken(str(refused)) from None
            return str(refused)
        size = os.fstat(contents).st_size
        if hashlib.sha256(os.pread(contents, size, 0)).hexdigest() != digest or len(manifest) > size:
            raise Broken("other contents than were told")
        _is_in_order(msgspec.msgpack.encode(index), size)
        return "accepted"
    finally:
        os.close(given)
        os.close(contents)


def _is_in_order(index: bytes, size: int) -> None:
    descriptor = sealed_memfd("index", index)
    try:
        handler_index.read(descriptor, size)
    except CommitError as error:
        raise Broken(str(error)) from None
    finally:
        os.close(descriptor)


TARGETS: dict[str, Callable[[str], Callable[[int], str]]] = {"package": _package}
