# SPDX-License-Identifier: Apache-2.0
"""Owns the credential store: the transport key and certificate, made once by the vault, kept 0600 in a 0700 folder.

Runs in the supervisor, the only process that reads it. It must never put a key anywhere else.
"""

import os

from ipc.errors import StateError
from ipc.messages import MakeTransportKey, TransportKey
from supervisor.certificate_store import CertificateStore, sealed_copy
from supervisor.files import PRIVATE, is_private, make_folder, read_text, remove, write_whole
from supervisor.fleet import Fleet, Unavailable

VALID_DAYS = 730
KEY_FILE, CERTIFICATE_FILE = "transport.key", "transport.crt"
# Where those of the platform are that are sealed for it.
CERTIFICATES = "certificates"


class Credentials:
    """The files in one folder."""

    def __init__(self, folder: str, fleet: Fleet) -> None:
        self._folder = folder
        self._fleet = fleet

    @property
    def complete(self) -> bool:
        """Whether both files are there, root's alone."""
        return all(is_private(f"{self._folder}/{name}") for name in (KEY_FILE, CERTIFICATE_FILE))

    @property
    def certificates(self) -> CertificateStore:
        """What the platform has sealed for the transport key, and was opened, as it stands on disk."""
        return CertificateStore(f"{self._folder}/{CERTIFICATES}")

    @property
    def certificate(self) -> str:
        """The transport certificate in PEM, empty while there is none."""
        return read_text(f"{self._folder}/{CERTIFICATE_FILE}") or ""

    def opening(self) -> tuple[int, int]:
        """Transport key and certificate as sealed memfds, the caller's to close. StateError while there are none."""
        key = self._sealed(KEY_FILE)
        try:
            return key, self._sealed(CERTIFICATE_FILE)
        except StateError:
            os.close(key)
            raise

    def forget(self) -> None:
        """Remove the key and what was opened with it: it belongs to another VM, whose disk this one was made from.
        StateError when that fails."""
        self.certificates.clear()
        for name in (CERTIFICATE_FILE, KEY_FILE):
            remove(f"{self._folder}/{name}")

    async def ensure(self) -> bool:
        """Have the transport key made unless it is there; True when it was made now."""
        make_folder(self._folder, 0o700)
        if self.complete:
            return False
        received = await self._fleet.do("vault", MakeTransportKey(VALID_DAYS), final=(TransportKey,))
        answer = received[-1][0]
        if not isinstance(answer, TransportKey):
            raise Unavailable(f"the vault answered {type(answer).__name__}")
        # The certificate last: with it there, the pair is complete, whenever this is cut short.
        write_whole(f"{self._folder}/{KEY_FILE}", answer.private_key.reveal().encode("ascii"), PRIVATE)
        write_whole(f"{self._folder}/{CERTIFICATE_FILE}", answer.certificate.encode("ascii"), PRIVATE)
        return True

    def _sealed(self, name: str) -> int:
        try:
            source = os.open(f"{self._folder}/{name}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise StateError(f"{self._folder}/{name} can't be read: {error.strerror}") from None
        try:
            return sealed_copy(name, source)
        finally:
            os.close(source)
