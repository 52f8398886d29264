# SPDX-License-Identifier: Apache-2.0
"""Owns the credential store: the transport key and certificate, made once by the vault, kept 0600 in a 0700 folder.

Runs in the supervisor, the only process that reads it. It must never put a key anywhere else.
"""

import os

from ipc.messages import MakeTransportKey, TransportKey
from supervisor.files import make_folder, read_text, remove, write_whole
from supervisor.fleet import Fleet, Unavailable

VALID_DAYS = 730
KEY_FILE, CERTIFICATE_FILE = "transport.key", "transport.crt"
PRIVATE = 0o600


class Credentials:
    """The files in one folder."""

    def __init__(self, folder: str, fleet: Fleet) -> None:
        self._folder = folder
        self._fleet = fleet

    @property
    def complete(self) -> bool:
        """Whether both files are there, root's alone."""
        return all(self._is_private(name) for name in (KEY_FILE, CERTIFICATE_FILE))

    def forget(self) -> None:
        """Remove the key: it belongs to another VM, whose disk this one was made from. StateError when that fails."""
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

    def _is_private(self, name: str) -> bool:
        try:
            status = os.stat(f"{self._folder}/{name}", follow_symlinks=False)
        except FileNotFoundError:
            return False
        return status.st_uid == 0 and status.st_mode & 0o777 == PRIVATE and bool(read_text(f"{self._folder}/{name}"))
