# SPDX-License-Identifier: Apache-2.0
"""Owns the secure channel's key while it is used, and the signature made with it: HMAC-SHA256 (RFC 2104, FIPS 198-1).

Runs in the supervisor. On the interpreter's own SHA-256: hmac and hashlib would map all of OpenSSL into it. The key
must never be shown, nor handed on.
"""

import re

import msgspec

from ipc.digest import sha256
from ipc.secret import Secret

SCHEME = "Azure-HMAC-SHA256"
_BLOCK_BYTES = 64
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))
_KEY = re.compile(r"[0-9A-Fa-f]{64}")
# It stands in a request's line and in a header.
_GUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


class SigningKey(msgspec.Struct, frozen=True):
    """A key by its `guid`; `secret` is its 64 hex digits. ValueError when either is not that."""

    guid: str
    secret: Secret

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.secret.value):
            raise ValueError("a key of the secure channel has 64 hex digits")
        if not _GUID.fullmatch(self.guid):
            raise ValueError("a key of the secure channel is named by a GUID")

    def authorization(self, content: bytes) -> bytes:
        """The value of the header that carries the signature of `content`."""
        signature = hmac_sha256(bytes.fromhex(self.secret.reveal()), content).hex()
        return f"{SCHEME} {self.guid} {signature}".encode("ascii")


def hmac_sha256(key: bytes, content: bytes) -> bytes:
    """The code, 32 bytes, for a key of any length."""
    block = (sha256((key,)) if len(key) > _BLOCK_BYTES else key).ljust(_BLOCK_BYTES, b"\0")
    inner = sha256((block.translate(_INNER), content))
    return sha256((block.translate(_OUTER), inner))
