# SPDX-License-Identifier: Apache-2.0
"""Owns the decision which keys count and whether a signature is required, from /usr, the command line and /etc.

Pure; used by the sealed compiler and the command line. What /etc says may add to the others and never take away.
"""

import base64
import binascii
from collections.abc import Iterator

import msgspec

from ipc.errors import ConfigError
from policy.material import WORD, Anchors, Material
from policy.override_file import FOLDER
from policy.signature import FILE_NAME, KEY_BYTES, fingerprint, public_key, signer

COMMAND_LINE = "the kernel's command line"
KEYS_FOLDER = "policy-keys"
REQUIREMENT_FILE = "policy-signature-required"


class Trust(msgspec.Struct, frozen=True):
    """Raw public keys that count, and who requires a signature ("" if nobody does)."""

    keys: tuple[bytes, ...]
    required_by: str
    notes: tuple[str, ...] = ()


def decide(material: Material) -> Trust:
    """Keys of /etc count only where neither /usr nor the command line has a key or a requirement.

    Else whoever writes in /etc could sign with a key of his own. A requirement counts wherever it stands.
    ConfigError for a key or word that can't be used."""
    given = _words(material.command_line)
    fixed = (*_keys("/usr", material.fixed), *given.keys)
    above = f"{REQUIREMENT_FILE} in /usr" if material.fixed.required else ""
    above = above or (COMMAND_LINE if given.required else "")
    if fixed or above:
        ignored = (f"keys in /etc do not count beside those of the image: {', '.join(sorted(material.local.keys))}",)
        required_by, keys, notes = above, fixed, ignored if material.local.keys else ()
    else:
        required_by, keys, notes = "", _keys("/etc", material.local), ()
    required_by = required_by or (f"{REQUIREMENT_FILE} in /etc" if material.local.required else "")
    return Trust(keys, required_by, notes)


def signed_by(material: Material, trust: Trust, shipped_digest: str) -> str:
    """The fingerprint of the key that signed the overrides, "" if there is no signature and none is required, or no key
    to check it with. ConfigError for one that is missing or wrong."""
    source = f"{FOLDER}/{FILE_NAME}"
    if trust.required_by and not trust.keys:
        raise ConfigError(
            source, f"a signature is required by {trust.required_by}, and there is no key to check it with"
        )
    if trust.required_by and not material.signature:
        raise ConfigError(source, f"is not there, and a signature is required by {trust.required_by}")
    if not material.signature or not trust.keys:
        return ""
    return fingerprint(signer(material.signature, trust.keys, material.overrides, shipped_digest))


class _Given(msgspec.Struct, frozen=True):
    keys: tuple[bytes, ...]
    required: bool


def _keys(place: str, anchors: Anchors) -> tuple[bytes, ...]:
    return tuple(public_key(f"{KEYS_FOLDER}/{name} in {place}", pem) for name, pem in sorted(anchors.keys.items()))


def _words(command_line: bytes) -> _Given:
    keys, required = [], False
    for name, value in _pairs(command_line):
        if name == "key":
            keys.append(_raw_key(value))
        elif (name, value) == ("signature", "required"):
            required = True
        else:
            word = f"{WORD.decode()}{name}={value}"
            raise ConfigError(COMMAND_LINE, f"{word[:80]!r} is not {WORD.decode()}key=BASE64 or …signature=required")
    return _Given(tuple(keys), required)


def _pairs(command_line: bytes) -> Iterator[tuple[str, str]]:
    for word in command_line.decode("utf-8", "replace").split():
        name, _, value = word.strip('"').partition("=")
        if name.encode().startswith(WORD):
            yield name.removeprefix(WORD.decode()), value.strip('"')


def _raw_key(text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error:
        key = b""
    if len(key) != KEY_BYTES:
        raise ConfigError(COMMAND_LINE, f"{WORD.decode()}key is not the base64 of a raw Ed25519 public key, 32 bytes")
    return key
