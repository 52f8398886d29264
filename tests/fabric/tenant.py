# SPDX-License-Identifier: Apache-2.0
"""Owns a tenant's certificates and keys as the emulated host has them, and the PFX that brings them to a VM.

Runs in test processes. Keys are made for a test and never leave it.
"""

import datetime
import hashlib
import hmac
import os
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.fabric import der
from tests.fabric.envelopes import DATA, encrypted, sealed_block

# What a tenant can have: rsa and ec with their keys, keyless without one; an orphan is a key without certificate.
KINDS = ("rsa", "ec", "keyless", "orphan")
PROTECTIONS, MACS = ("none", "3des", "aes"), ("none", "sha1", "sha256")
_BAG, _PKCS9 = "1.2.840.113549.1.12.10.1.", "1.2.840.113549.1.9."
_PBE_3DES, _PBES2 = "1.2.840.113549.1.12.1.3", "1.2.840.113549.1.5.13"
_ROUNDS = 2000
_DIGESTS = {"sha1": "1.3.14.3.2.26", "sha256": "2.16.840.1.101.3.4.2.1"}


@dataclass(frozen=True)
class Holding:
    """One certificate, its key, or both: DER, the key in PKCS 8; empty where it has none."""

    kind: str
    certificate: bytes
    key: bytes

    @property
    def thumbprint(self) -> str:
        """As Azure names it; empty without certificate."""
        return hashlib.sha1(self.certificate, usedforsecurity=False).hexdigest().upper() if self.certificate else ""

    @property
    def is_whole(self) -> bool:
        return bool(self.certificate and self.key)


@dataclass(frozen=True)
class Tenant:
    """What one PFX holds."""

    holdings: tuple[Holding, ...] = ()

    @classmethod
    def make(cls, kinds: tuple[str, ...], now: float) -> "Tenant":
        """Fresh ones, each of its kind (KINDS). Raises ValueError."""
        return cls(tuple(_make(kind, number, now) for number, kind in enumerate(kinds)))

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(holding.kind for holding in self.holdings)

    @property
    def thumbprints(self) -> tuple[str, ...]:
        """Of every certificate, with or without key."""
        return tuple(holding.thumbprint for holding in self.holdings if holding.certificate)

    def for_settings(self, number: int = 0) -> Holding | None:
        """The certificate number `number` of those for which protected settings can be sealed."""
        able = [holding for holding in self.holdings if holding.kind == "rsa"]
        return able[number] if number < len(able) else None

    def pfx(self, protection: str = "aes", mac: str = "sha256") -> bytes:
        """A key store with the empty password: keys protected so (PROTECTIONS), with that MAC (MACS)."""
        keys = [_key_bag(holding, protection) for holding in self.holdings if holding.key]
        certificates = [_certificate_bag(holding) for holding in self.holdings if holding.certificate]
        contents = [_data(der.sequence(*bags)) for bags in (keys, certificates) if bags]
        safe = der.sequence(*contents)
        return der.sequence(der.integer(3), _data(safe), *(() if mac == "none" else (_mac(safe, mac),)))


def _make(kind: str, number: int, now: float) -> Holding:
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is none of {', '.join(KINDS)}")
    key = ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"Tenant {kind} {number}")])
    day = datetime.datetime.fromtimestamp(now, datetime.UTC)
    unsigned = x509.CertificateBuilder(
        name,
        name,
        key.public_key(),
        x509.random_serial_number(),
        day - datetime.timedelta(1),
        day + datetime.timedelta(365),
    ).add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    certificate = unsigned.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    private = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return Holding(kind, b"" if kind == "orphan" else certificate, b"" if kind == "keyless" else private)


def _data(content: bytes) -> bytes:
    return der.sequence(der.identifier(DATA), der.context(0, der.octets(content)))


def _key_bag(holding: Holding, protection: str) -> bytes:
    if protection == "none":
        return _bag(1, holding.key, holding)
    algorithm, sealed = (_with_3des if protection == "3des" else _with_aes)(holding.key)
    return _bag(2, der.sequence(algorithm, der.octets(sealed)), holding)


def _certificate_bag(holding: Holding) -> bytes:
    content = der.context(0, der.octets(holding.certificate))
    return _bag(3, der.sequence(der.identifier(f"{_PKCS9}22.1"), content), holding)


def _bag(kind: int, content: bytes, holding: Holding) -> bytes:
    """With the id by which a certificate and its key find each other."""
    if not holding.is_whole:
        return der.sequence(der.identifier(f"{_BAG}{kind}"), der.context(0, content))
    local = der.octets(bytes.fromhex(holding.thumbprint))
    attribute = der.sequence(der.identifier(f"{_PKCS9}21"), der.tagged(der.SET, local))
    return der.sequence(der.identifier(f"{_BAG}{kind}"), der.context(0, content), der.tagged(der.SET, attribute))


def _with_3des(content: bytes) -> tuple[bytes, bytes]:
    salt = os.urandom(8)
    key, vector = (_derived(salt, purpose, size, "sha1") for purpose, size in ((1, 24), (2, 8)))
    parameters = der.sequence(der.octets(salt), der.integer(_ROUNDS))
    return der.algorithm(_PBE_3DES, parameters), sealed_block(content, TripleDES(key), vector)


def _with_aes(content: bytes) -> tuple[bytes, bytes]:
    salt = os.urandom(16)
    key = hashlib.pbkdf2_hmac("sha256", b"", salt, _ROUNDS, 32)
    vector, sealed = encrypted(content, key, "AES256_CBC")
    digest = der.algorithm("1.2.840.113549.2.9", der.NOTHING)
    derivation = der.algorithm(
        "1.2.840.113549.1.5.12", der.sequence(der.octets(salt), der.integer(_ROUNDS), der.integer(32), digest)
    )
    scheme = der.algorithm("2.16.840.1.101.3.4.1.42", der.octets(vector))
    return der.algorithm(_PBES2, der.sequence(derivation, scheme)), sealed


def _mac(safe: bytes, digest: str) -> bytes:
    salt = os.urandom(8)
    size = hashlib.new(digest).digest_size
    value = hmac.new(_derived(salt, 3, size, digest), safe, digest).digest()
    info = der.sequence(der.algorithm(_DIGESTS[digest], der.NOTHING), der.octets(value))
    return der.sequence(info, der.octets(salt), der.integer(_ROUNDS))


def _derived(salt: bytes, purpose: int, size: int, digest: str) -> bytes:
    """RFC 7292, appendix B.2, for the empty password, which is one zero character there."""
    block = 64  # of SHA-1 and SHA-256 alike

    def filled(text: bytes) -> bytes:
        length = block * -(-len(text) // block)
        return (text * length)[:length]

    text = bytearray(filled(salt) + filled(b"\0\0"))
    made = b""
    while len(made) < size:
        part = bytes((purpose,)) * block + bytes(text)
        for _ in range(_ROUNDS):
            part = hashlib.new(digest, part).digest()
        made += part
        addend = int.from_bytes(filled(part)[:block], "big") + 1
        for at in range(0, len(text), block):
            total = int.from_bytes(text[at : at + block], "big") + addend
            text[at : at + block] = (total % (1 << 8 * block)).to_bytes(block, "big")
    return made[:size]
