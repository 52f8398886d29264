# SPDX-License-Identifier: Apache-2.0
"""Owns who signs packages in a test: an authority made for it, a publisher's certificate, detached CMS signatures.

Runs in tests. Nothing but the lab that is given the authority's certificate ever trusts it.
"""

import datetime
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs7


@dataclass(frozen=True)
class Signer:
    """`authority` is the certificate to be trusted, in PEM; `name` the subject that signs."""

    name: str
    authority: bytes
    certificate: x509.Certificate
    key: rsa.RSAPrivateKey

    @classmethod
    def make(cls, name: str = "Test publisher", *, days: tuple[int, int] = (-1, 30)) -> "Signer":
        """One with an authority of its own; its certificate is valid on those days, counted from today."""
        root, key = (rsa.generate_private_key(65537, 2048) for _ in range(2))
        top = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"Authority of {name}")])
        own = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        authority = _certificate(top, root, top, root, (-1, 30))
        return cls(
            name, authority.public_bytes(serialization.Encoding.PEM), _certificate(own, key, top, root, days), key
        )

    def sign(self, package: bytes) -> bytes:
        """The signature over `package`, in DER: signed data without the data."""
        builder = pkcs7.PKCS7SignatureBuilder().set_data(package)
        signed = builder.add_signer(self.certificate, self.key, hashes.SHA256())
        options = [pkcs7.PKCS7Options.DetachedSignature, pkcs7.PKCS7Options.Binary]
        return signed.sign(serialization.Encoding.DER, options)


def _certificate(
    name: x509.Name, key: rsa.RSAPrivateKey, issuer: x509.Name, issuer_key: rsa.RSAPrivateKey, days: tuple[int, int]
) -> x509.Certificate:
    today = datetime.datetime.now(datetime.UTC)
    first, last = (today + datetime.timedelta(day) for day in days)
    serial = x509.random_serial_number()
    unsigned = x509.CertificateBuilder(issuer, name, key.public_key(), serial, first, last)
    unsigned = unsigned.add_extension(x509.BasicConstraints(name == issuer, None), critical=True)
    return unsigned.sign(issuer_key, hashes.SHA256())
