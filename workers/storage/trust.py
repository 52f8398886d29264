# SPDX-License-Identifier: Apache-2.0
"""Owns whom a transfer trusts: the authorities that this machine's owner trusts, read as far as they are needed.

Runs in the storage worker. It must never trust anybody whom OpenSSL, as it is set up here, would not.
"""

import os
import ssl

# As OpenSSL finds an authority in a folder: by the hash of its name, of several the first is 0.
HASHED = ".0"


class Trust:
    """Certificates are checked against it, names included."""

    def __init__(self) -> None:
        """Of a hundred and more authorities one is needed: where each has a file of its own, no other is read."""
        folder: str | None = ssl.get_default_verify_paths().capath
        # None where there is no such folder.
        folder = folder if folder and _is_hashed(folder) else None
        self._is_whole = folder is None
        self.context = ssl.create_default_context(capath=folder)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2

    def complete(self) -> bool:
        """Read those, too, that stand in the bundle alone; False if that has been done."""
        if self._is_whole:
            return False
        self._is_whole = True
        self.context.load_default_certs()
        return True


def _is_hashed(folder: str) -> bool:
    with os.scandir(folder) as entries:
        return any(entry.name.endswith(HASHED) for entry in entries)
