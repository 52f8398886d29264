# SPDX-License-Identifier: Apache-2.0
"""Owns the reading of a host key's public half, as ssh-keygen wrote it: what kind it is, how large, its fingerprint.

Runs in committers. It reads files of root's alone; a line that is not what ssh-keygen writes is refused.
"""

import base64
import binascii

from ipc.digest import sha256_hex
from ipc.errors import CommitError
from ipc.messages import HostKey

LARGEST = 4096
# The first word of a line: the name of its kind, and where its size is: fixed, or the bits of that field of the blob.
FIXED = {
    "ssh-ed25519": ("ed25519", 256),
    "ecdsa-sha2-nistp256": ("ecdsa", 256),
    "ecdsa-sha2-nistp384": ("ecdsa", 384),
    "ecdsa-sha2-nistp521": ("ecdsa", 521),
}
MEASURED = {"ssh-rsa": ("rsa", 2), "ssh-dss": ("dsa", 1)}


def read_public(content: bytes, path: str) -> HostKey:
    """The key in the .pub file `path`, whose bytes are `content`; CommitError for anything else."""
    line = content.decode("utf-8", "replace").rstrip("\n")
    words = line.split(" ", 2)
    try:
        blob = base64.b64decode(words[1], validate=True)
        fields = _fields(blob)
        if fields[0] != words[0].encode() or len(line) > LARGEST or not line.isprintable():
            raise ValueError
        algorithm, bits = FIXED.get(words[0]) or _measured(words[0], fields)
    except (IndexError, KeyError, ValueError, binascii.Error):
        raise CommitError(f"{path} holds no public key of a known kind, in one line") from None
    fingerprint = base64.b64encode(bytes.fromhex(sha256_hex([blob]))).decode().rstrip("=")
    return HostKey(algorithm, bits, fingerprint, line)


def _measured(word: str, fields: list[bytes]) -> tuple[str, int]:
    algorithm, field = MEASURED[word]
    return algorithm, int.from_bytes(fields[field], "big").bit_length() or 1


def _fields(blob: bytes) -> list[bytes]:
    """The blob's parts, each with its length in four bytes before it (RFC 4253, 6.6); ValueError when cut short."""
    fields = []
    while blob:
        length = int.from_bytes(blob[:4], "big")
        if len(blob) < 4 + length:
            raise ValueError
        fields.append(blob[4 : 4 + length])
        blob = blob[4 + length :]
    return fields
