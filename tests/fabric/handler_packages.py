# SPDX-License-Identifier: Apache-2.0
"""Owns handlers' packages of our own, right ones and wrongly made ones, as bytes of a zip.

Runs in tests. The program in them (handler_program.py) runs in the lab and says there what each handler does.
"""

import io
import json
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
SHIM = b'#!/bin/sh\nexec /usr/bin/python3 -BEsS "$(dirname "$0")/handler.py" "$@"\n'
VERBS = ("install", "enable", "update", "disable", "uninstall")


@dataclass(frozen=True)
class Package:
    """A handler in one version. `does`: a verb, or "*" for all -> what it does beside telling the judge, in words as
    handler_program.DEEDS has them, NAME or NAME=ARGUMENT; the public settings' `does` adds to it.

    `flags` go into handlerManifest as they are, `manifest` beside it (resourceLimits, signingInfo), `files` into the
    package; `commands` takes the place of a verb's command line, "" for none."""

    name: str
    version: str = "1.0.0"
    does: Mapping[str, Sequence[str]] = field(default_factory=dict)
    flags: Mapping[str, object] = field(default_factory=dict)
    manifest: Mapping[str, object] = field(default_factory=dict)
    commands: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """What it is called below Lib.Dir."""
        return f"{self.name}-{self.version}"

    def handler_manifest(self) -> bytes:
        """HandlerManifest.json, with a byte order mark as some have."""
        commands = {f"{verb}Command": self.commands.get(verb, f"bin/handler {verb}") for verb in VERBS}
        told = {"name": self.name, "version": self.version, "handlerManifest": {**commands, **self.flags}}
        return b"\xef\xbb\xbf" + json.dumps([{**told, **self.manifest}]).encode()

    def contents(self) -> dict[str, bytes]:
        """Every file of it."""
        return {
            "HandlerManifest.json": self.handler_manifest(),
            "does.json": json.dumps({verb: list(words) for verb, words in self.does.items()}).encode(),
            "bin/handler": SHIM,
            "bin/handler.py": (HERE / "handler_program.py").read_bytes(),
            "bin/handler_attacks.py": (HERE / "handler_attacks.py").read_bytes(),
            **self.files,
        }

    def zipped(self) -> bytes:
        """The package. Modes are left out, as by most vendors' tools: the agent has to see to them."""
        return zipped(self.contents())

    def wrong(self, how: str) -> bytes:
        """The package, wrongly made (WRONGS)."""
        return WRONGS[how](self)


def zipped(contents: Mapping[str, bytes]) -> bytes:
    """A zip of these files, the same each time."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path, content in contents.items():
            archive.writestr(zipfile.ZipInfo(path), content, zipfile.ZIP_DEFLATED)
    return made.getvalue()


def _with(package: Package, path: str, content: bytes, mode: int = 0) -> bytes:
    """The package with one more entry, of that Unix mode."""
    made = io.BytesIO(package.zipped())
    with zipfile.ZipFile(made, "a", zipfile.ZIP_DEFLATED) as archive:
        entry = zipfile.ZipInfo(path)
        entry.create_system, entry.external_attr, entry.compress_type = 3, mode << 16, zipfile.ZIP_DEFLATED
        archive.writestr(entry, content)
    return made.getvalue()


def _bomb(package: Package) -> bytes:
    """64 MiB of nothing that say they are 5 GiB: more than a package may hold."""
    made = bytearray(_with(package, "bomb", bytes(64 << 20)))
    # The sizes in the last entry of the central directory, which end where the end record begins.
    entry = made.rfind(b"PK\x01\x02")
    struct.pack_into("<L", made, entry + 24, 0xFFFF_FFFE)
    return bytes(made)


def _many(package: Package) -> bytes:
    return zipped({**package.contents(), **{f"many/{number}": b"" for number in range(100_000)}})


def _encrypted(package: Package) -> bytes:
    """Every entry says that it is, in both of its headers."""
    made = bytearray(package.zipped())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := made.find(mark, at + 1)) >= 0:
            made[at + offset] |= 1
    return bytes(made)


# Each has to be refused, and the next place asked.
WRONGS: dict[str, Callable[[Package], bytes]] = {
    "bomb": _bomb,
    "climber": lambda package: _with(package, "../../../../root/climbed", b"climbed\n"),
    "absolute": lambda package: _with(package, "/root/climbed", b"climbed\n"),
    "link": lambda package: _with(package, "bin/link", b"/etc/shadow", 0o120777),
    "set-id": lambda package: _with(package, "bin/root", b"#!/bin/sh\n", 0o104755),
    "many": _many,
    "encrypted": _encrypted,
    "truncated": lambda package: package.zipped()[:-200],
    "no-manifest": lambda package: zipped({"readme": b"nothing else\n"}),
    "no-zip": lambda _package: b"<html>a portal that wants a log-in first</html>",
}
