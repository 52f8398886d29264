# SPDX-License-Identifier: Apache-2.0
"""Owns the VM's certificates on disk: each key and certificate in a file of its own, root's alone; a list of them.

Runs in the supervisor. No private key ever comes into this process: the kernel copies it from one file to another.
"""

import fcntl
import os
import re
from collections.abc import Collection, Mapping
from contextlib import suppress

import msgspec
from msgspec.structs import replace

from ipc.descriptors import SEALS
from ipc.errors import StateError
from ipc.messages import CertificatesOpened, OpenedCertificate
from ipc.messages.vault import Thumbprint
from supervisor.files import PRIVATE, copy_whole, is_private, make_folder, read_text, remove, write_whole

# What is in it is there whole: files come before they are listed here, and go after.
LIST = "list.json"
MOST_LIST_BYTES = 256 * 1024
MOST_FILE_BYTES = 64 * 1024
_NAME = re.compile(r"[0-9A-F]{40}")


class Certificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One certificate of this VM. `thumbprint`: SHA-1 over DER, upper case. `ssh_public_key`: a line for
    authorized_keys, empty for a key that ssh does not have; `key_kind` is for people."""

    thumbprint: Thumbprint
    has_private_key: bool
    subject: str
    not_after_s: int
    ssh_public_key: str
    key_kind: str


class CertificateStore:
    """The files in `folder`; `known` is what is listed, by thumbprint."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.known: Mapping[str, Certificate] = self._listed()

    def take(self, opened: CertificatesOpened, files: tuple[int, ...], keep: Collection[str]) -> None:
        """Have exactly what was `opened`, whose certificates and keys are in `files`, and what there is of `keep`.

        StateError: it could not be written; then what was listed before still is, with all its files."""
        made = {row.thumbprint: _certificate(row) for row in opened.certificates}
        wanted = {**made, **{name: _kept(each, made.get(name)) for name, each in self.known.items() if name in keep}}
        make_folder(self._folder, 0o700)
        for row in opened.certificates:
            self._place(row, files)
        if wanted != self.known:
            content = msgspec.json.encode(list(wanted.values()))
            write_whole(f"{self._folder}/{LIST}", content, PRIVATE)
            self.known = wanted
        self._sweep()

    def private_key(self, thumbprint: str) -> int:
        """A sealed memfd with the PEM of the private key, the caller's to close. LookupError where there is none."""
        if thumbprint not in self.known or not self.known[thumbprint].has_private_key:
            raise LookupError(f"this VM has no private key of certificate {thumbprint}")
        try:
            source = os.open(self._path(thumbprint, "key"), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise StateError(f"{self._path(thumbprint, 'key')} can't be read: {error.strerror}") from None
        try:
            return sealed_copy("private key", source)
        finally:
            os.close(source)

    def certificate(self, thumbprint: str) -> int:
        """A descriptor of the certificate's file, PEM, the caller's to close. LookupError where there is none."""
        if thumbprint not in self.known:
            raise LookupError(f"this VM has no certificate {thumbprint}")
        path = self._path(thumbprint, "crt")
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise StateError(f"{path} can't be read: {error.strerror}") from None

    def clear(self) -> None:
        """Remove all of it. StateError when that fails."""
        self.known = {}
        remove(f"{self._folder}/{LIST}")
        self._sweep()

    def _listed(self) -> dict[str, Certificate]:
        """What an earlier life has left, as far as its files are there; nothing where the list can't be read."""
        text = read_text(f"{self._folder}/{LIST}", MOST_LIST_BYTES)
        try:
            rows = msgspec.json.decode(text or "[]", type=list[Certificate])
        except (msgspec.DecodeError, msgspec.ValidationError):
            return {}
        return {row.thumbprint: row for row in rows if all(map(is_private, self._files_of(row)))}

    def _place(self, row: OpenedCertificate, files: tuple[int, ...]) -> None:
        """A thumbprint names one content for ever, but an opener that was taken over may have written another: what is
        there never stands against what comes. A key isn't read here, not even to compare it, and is written anew."""
        key, path = self._path(row.thumbprint, "key"), self._path(row.thumbprint, "crt")
        if row.private_key is not None:
            copy_whole(key, files[1], row.private_key, PRIVATE)
        offset, size = row.certificate
        if not is_private(path) or _content(path, size + 1) != os.pread(files[0], size, offset):
            copy_whole(path, files[0], row.certificate, PRIVATE)

    def _sweep(self) -> None:
        """Remove what is not listed."""
        due = {path for row in self.known.values() for path in self._files_of(row)} | {f"{self._folder}/{LIST}"}
        with suppress(FileNotFoundError):
            for name in os.listdir(self._folder):
                if f"{self._folder}/{name}" not in due:
                    remove(f"{self._folder}/{name}")

    def _files_of(self, row: Certificate) -> list[str]:
        return [self._path(row.thumbprint, suffix) for suffix in ("crt", *(("key",) if row.has_private_key else ()))]

    def _path(self, thumbprint: str, suffix: str) -> str:
        if not _NAME.fullmatch(thumbprint):
            raise StateError(f"{thumbprint[:64]!r} is no thumbprint, which has 40 digits 0-9 A-F: it names no file")
        return f"{self._folder}/{thumbprint}.{suffix}"


def sealed_copy(name: str, source: int) -> int:
    """A sealed memfd with what is in the file `source`, copied by the kernel. StateError when that fails."""
    size = os.fstat(source).st_size
    if not 0 < size <= MOST_FILE_BYTES:
        raise StateError(f"the {name} has {size} bytes, where 1 to {MOST_FILE_BYTES} were expected")
    memfd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.sendfile(memfd, source, 0, size)
        fcntl.fcntl(memfd, fcntl.F_ADD_SEALS, SEALS)
    except OSError as error:
        os.close(memfd)
        raise StateError(f"the {name} can't be copied: {error.strerror}") from None
    return memfd


def _content(path: str, most_bytes: int) -> bytes:
    """The first `most_bytes` of the file; nothing of one that can't be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return b""
    try:
        return os.read(descriptor, most_bytes)
    finally:
        os.close(descriptor)


def _kept(old: Certificate, new: Certificate | None) -> Certificate:
    """Of one that is named: as it is told now, if it is, and with the private key that is there."""
    return old if new is None else replace(new, has_private_key=old.has_private_key or new.has_private_key)


def _certificate(row: OpenedCertificate) -> Certificate:
    return Certificate(
        row.thumbprint, row.private_key is not None, row.subject, row.not_after_s, row.ssh_public_key, row.key_kind
    )
