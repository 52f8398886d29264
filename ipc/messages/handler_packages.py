# SPDX-License-Identifier: Apache-2.0
"""Owns how a package becomes a handler's folder: unpacked by who has nothing to lose, laid down by a committer."""

from typing import Annotated

import msgspec

from ipc.messages.base import Message, Short
from ipc.messages.vault import Openssl

MOST_PACKAGE_BYTES = 1 << 30
MOST_UNPACKED_BYTES = 4 << 30
MOST_ENTRIES = 20_000
# A handler's folder below Lib.Dir: Publisher.Type-Version.
HandlerFolder = Annotated[
    str, msgspec.Meta(max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*-[0-9]+(\.[0-9]+){0,3}\Z")
]
Folder = Annotated[str, msgspec.Meta(max_length=1024, pattern=r"^/[^\x00]*[^/\x00]\Z")]
# Below the handler's folder: parts joined by single slashes, none of them empty, "." or "..", no control characters.
Inner = Annotated[str, msgspec.Meta(min_length=1, max_length=1024)]
Count = Annotated[int, msgspec.Meta(ge=0, le=MOST_ENTRIES)]
Bytes = Annotated[int, msgspec.Meta(ge=0, le=MOST_UNPACKED_BYTES)]


class UnpackPackage(Message, frozen=True):
    """To the unpacker. Two descriptors: the package, read-only, and an empty file without a name, for the contents of
    its files, one after the other. At most so many entries and bytes; a manifest is looked for beside it all."""

    most_entries: Count
    most_bytes: Bytes


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True):
    """A file of a package, or a folder (`size` None), as in the index. `start` is where its content begins."""

    path: Inner
    start: Bytes
    size: Bytes | None


class PackageUnpacked(Message, frozen=True):
    """Two descriptors, sealed memfds: the index, msgpack of a list of Entry, each folder before all that is in it (in
    the order of their paths' parts); and the text of the first HandlerManifest.json of a walk, without a byte order
    mark, empty if there is none. All contents together have that size and SHA-256."""

    entries: Count
    size: Bytes
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


class PackageRefused(Message, frozen=True):
    """Nothing of it is used: `problem` names the entry."""

    problem: Short


class PlaceHandler(Message, frozen=True):
    """To the handler-files committer: make `lib`/`folder` of an index and the contents, root's, with `manifest` at its
    top level; whole, or not at all. Three descriptors: index and manifest as in PackageUnpacked, contents read-only.

    A folder of that name that is there is replaced; `kept` are subfolders of it that stay as they are."""

    lib: Folder
    folder: HandlerFolder
    size: Bytes
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    kept: Annotated[tuple[Inner, ...], msgspec.Meta(max_length=8)] = ()


class CarryOver(Message, frozen=True):
    """To the same: copy what an upgrade takes along, `mrseq` and the files in `status`, from folder to folder."""

    lib: Folder
    source: HandlerFolder
    target: HandlerFolder


class RemoveHandler(Message, frozen=True):
    """To the same: remove `lib`/`folder` and its package, following no link, crossing no mount."""

    lib: Folder
    folder: HandlerFolder


class VerifyPackage(Message, frozen=True):
    """To the opener: is this the signature over that package (extensions.md 7.3)? Three descriptors: the package,
    read-only; the signature, DER of CMS signed data; and the authorities that count, in PEM; both sealed memfds."""

    openssl: Openssl


class PackageVerified(Message, frozen=True):
    """It is; `signer` is the subject of the certificate that signed."""

    signer: Short


class SignatureRefused(Message, frozen=True):
    """It is not, or can't be told: `problem` says why."""

    problem: Short
