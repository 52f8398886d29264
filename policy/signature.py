# SPDX-License-Identifier: Apache-2.0
"""Owns the detached Ed25519 signature of a set of overrides: what is signed, the file's form, signing and checking.

Used by the sealed compiler and the command line; cryptography is never loaded into a resident process.
"""

import base64
import re
from collections.abc import Iterable, Mapping

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from ipc.digest import sha256_hex
from ipc.errors import ConfigError
from policy.override_file import FOLDER
from policy.sources import digest

FILE_NAME = "policy.sig"
KEY_BYTES = 32
_HEAD = "agent-supervisor-policy-1"
_FORM = re.compile(rf"{_HEAD} ([A-Za-z0-9+/]{{86}}==)\n?")


def signed_bytes(overrides: Mapping[str, bytes], shipped_digest: str) -> bytes:
    """What a signature is over: every override's name and content, and the shipped policy (policy.sources.digest)."""
    return f"{_HEAD}\noverrides {digest(overrides)}\nshipped {shipped_digest}\n".encode()


def sign(private_key: bytes, overrides: Mapping[str, bytes], shipped_digest: str) -> tuple[bytes, bytes]:
    """(the signature file's content, the raw public key); ValueError unless `private_key` is PEM of an Ed25519 key
    without a pass phrase."""
    try:
        key = load_pem_private_key(private_key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("is no PEM file with a private key that has no pass phrase") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("is not an Ed25519 key")
    signature = base64.b64encode(key.sign(signed_bytes(overrides, shipped_digest))).decode()
    return f"{_HEAD} {signature}\n".encode(), key.public_key().public_bytes_raw()


def signer(content: bytes, keys: Iterable[bytes], overrides: Mapping[str, bytes], shipped_digest: str) -> bytes:
    """The one of the raw public `keys` with which the signature file `content` was made; ConfigError if none was."""
    source = f"{FOLDER}/{FILE_NAME}"
    form = _FORM.fullmatch(content.decode("ascii", "replace"))
    if form is None:
        raise ConfigError(source, f"is no signature: expected one line, {_HEAD} and 88 characters of base64")
    message = signed_bytes(overrides, shipped_digest)
    keys = tuple(keys)
    for key in keys:
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(base64.b64decode(form[1]), message)
        except InvalidSignature:
            continue
        return key
    tried = ", ".join(fingerprint(key) for key in keys) or "none"
    raise ConfigError(
        source,
        f"does not fit {', '.join(sorted(overrides)) or 'an empty folder'} and the shipped policy of this version: "
        f"a file was changed, added, removed or renamed, or another key was used (keys that count: {tried})",
    )


def public_key(source: str, pem: bytes) -> bytes:
    """The raw key in a PEM file; ConfigError, naming `source`, for anything but an Ed25519 public key."""
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(source, "is no PEM file with a public key") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(source, "is not an Ed25519 public key")
    return key.public_bytes_raw()


def fingerprint(key: bytes) -> str:
    """How a raw public key is shown: the beginning of its SHA-256."""
    return f"sha256:{sha256_hex([key])[:32]}"
