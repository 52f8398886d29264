# SPDX-License-Identifier: Apache-2.0
"""Owns the certificate authority of a lab: made for it, trusted in it, and the storage account's certificate from it.

Runs in test processes. Nothing outside the lab ever trusts it.
"""

import datetime
import ipaddress
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

TRUSTED = Path("/etc/ssl/certs")
BUNDLE = TRUSTED / "ca-certificates.crt"
# Where the emulated host finds its certificate and key, in the lab.
IDENTITY = "/etc/emulated-storage.pem"


@dataclass(frozen=True)
class Authority:
    """`certificate` is the authority's own, in PEM; `identity` that of `name`, with its key."""

    name: str
    certificate: bytes
    identity: bytes

    @classmethod
    def make(cls, name: str, *, days: tuple[int, int] = (-1, 30)) -> "Authority":
        """One with an account called `name`, whose certificate is valid on those days, counted from today."""
        root = ec.generate_private_key(ec.SECP256R1())
        own = _certificate("Emulated authority", root, "Emulated authority", root, (-1, 30), None)
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = _certificate(name, key, "Emulated authority", root, days, name)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return cls(name, _pem(own), _pem(leaf) + private)

    def files(self) -> dict[str, bytes]:
        """What a lab's image has of it: the trust, as this distribution keeps it, and the account's identity."""
        hashed = subprocess.run(
            ["openssl", "x509", "-noout", "-subject_hash"], input=self.certificate, capture_output=True, check=True
        )
        bundle = BUNDLE.read_bytes() if BUNDLE.exists() else b""
        return {
            str(BUNDLE): bundle + self.certificate,
            str(TRUSTED / f"{hashed.stdout.decode().strip()}.0"): self.certificate,
            IDENTITY: self.identity,
        }


def server_context(identity: Path) -> ssl.SSLContext:
    """What the account shows to its callers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(identity)
    return context


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    days: tuple[int, int],
    host: str | None,
) -> x509.Certificate:
    """An authority's, or with `host` a server's."""
    today = datetime.datetime.now(datetime.UTC)
    first, last = (today + datetime.timedelta(day) for day in days)
    serial = x509.random_serial_number()
    unsigned = x509.CertificateBuilder(_name(issuer), _name(name), key.public_key(), serial, first, last)
    unsigned = unsigned.add_extension(x509.BasicConstraints(host is None, None), critical=True)
    unsigned = unsigned.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    if host is not None:
        unsigned = unsigned.add_extension(x509.SubjectAlternativeName([_general_name(host)]), critical=False)
    return unsigned.sign(issuer_key, hashes.SHA256())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
