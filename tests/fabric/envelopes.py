# SPDX-License-Identifier: Apache-2.0
"""Owns the envelopes that the emulated host seals: CMS EnvelopedData for one recipient (wire-protocol.md 5.2, 8).

Runs in test processes. It shares no code with the agent, which opens them with the host's OpenSSL.
"""

import os
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import padding as blocks
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import BlockCipherAlgorithm, Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from tests.fabric import der

DATA, ENVELOPED = "1.2.840.113549.1.7.1", "1.2.840.113549.1.7.3"
# The cipher's name in a request -> its identifier and the size of its key.
CIPHERS = {
    "AES128_CBC": ("2.16.840.1.101.3.4.1.2", 16),
    "AES256_CBC": ("2.16.840.1.101.3.4.1.42", 32),
    "DES_EDE3_CBC": ("1.2.840.113549.3.7", 24),
}


@dataclass(frozen=True)
class Recipient:
    """For whom, and how: `padding` is v15 or oaep; named by subject key identifier, or with `by_issuer` by issuer and
    serial number."""

    certificate: bytes
    padding: str = "v15"
    by_issuer: bool = False


def enveloped(content: bytes, recipient: Recipient, cipher: str = "AES128_CBC") -> bytes:
    """`content` in DER, sealed for `recipient`."""
    certificate = x509.load_der_x509_certificate(recipient.certificate)
    name, key_size = CIPHERS[cipher]
    key = os.urandom(key_size)
    algorithm, sealed = encrypted(content, key, cipher)
    info = der.sequence(
        der.integer(0 if recipient.by_issuer else 2),
        _issuer_of(certificate) if recipient.by_issuer else _key_of(certificate),
        *_sealed_key(key, certificate, recipient.padding),
    )
    body = der.sequence(
        der.integer(0 if recipient.by_issuer else 2),
        der.tagged(der.SET, info),
        der.sequence(
            der.identifier(DATA),
            der.algorithm(name, der.octets(algorithm)),
            der.context(0, sealed, constructed=False),
        ),
    )
    return der.sequence(der.identifier(ENVELOPED), der.context(0, body))


def encrypted(content: bytes, key: bytes, cipher: str) -> tuple[bytes, bytes]:
    """Initialisation vector and ciphertext, in CBC with the padding of PKCS 7."""
    made: BlockCipherAlgorithm = TripleDES(key) if cipher == "DES_EDE3_CBC" else AES(key)
    vector = os.urandom(made.block_size // 8)
    return vector, sealed_block(content, made, vector)


def sealed_block(content: bytes, algorithm: BlockCipherAlgorithm, vector: bytes) -> bytes:
    """`content` padded and encrypted."""
    padder = blocks.PKCS7(algorithm.block_size).padder()
    encryptor = Cipher(algorithm, modes.CBC(vector)).encryptor()
    return encryptor.update(padder.update(content) + padder.finalize()) + encryptor.finalize()


def _sealed_key(key: bytes, certificate: x509.Certificate, how: str) -> tuple[bytes, bytes]:
    public = certificate.public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    if how == "oaep":
        oaep = padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None)  # what no parameters mean
        return der.algorithm("1.2.840.113549.1.1.7", der.sequence()), der.octets(public.encrypt(key, oaep))
    return der.algorithm("1.2.840.113549.1.1.1", der.NOTHING), der.octets(public.encrypt(key, padding.PKCS1v15()))


def _key_of(certificate: x509.Certificate) -> bytes:
    try:
        digest = certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except x509.ExtensionNotFound:
        digest = x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()).digest
    return der.context(0, digest, constructed=False)


def _issuer_of(certificate: x509.Certificate) -> bytes:
    return der.sequence(certificate.issuer.public_bytes(), der.integer(certificate.serial_number))
