# SPDX-License-Identifier: Apache-2.0
"""Owns what a public key is, as a certificate or a private key has it: by what it is known, its kind, its form for ssh.

Runs in the opener. It must never take anything secret out of a private key.
"""

import base64
from typing import NamedTuple

from workers.opener import der
from workers.opener.der import Element

RSA = bytes.fromhex("2a864886f70d010101")
EC = bytes.fromhex("2a8648ce3d0201")
ED25519 = bytes.fromhex("2b6570")
CURVES = {
    bytes.fromhex("2a8648ce3d030107"): "nistp256",
    bytes.fromhex("2b81040022"): "nistp384",
    bytes.fromhex("2b81040023"): "nistp521",
}
UNCOMPRESSED = b"\x04"
# Of a longer key no line is made for ssh, which takes none.
MOST_RSA_BITS = 8192


class PublicKey(NamedTuple):
    """`parts` are equal for equal keys: the algorithm, and its numbers as DER has them."""

    algorithm: bytes
    parts: tuple[bytes, ...]

    @property
    def kind(self) -> str:
        """For people, such as `RSA 2048`."""
        if self.algorithm == RSA:
            return f"RSA {_bits(self.parts[0])}"
        if self.algorithm == EC:
            return f"EC {CURVES.get(self.parts[0], 'of another curve')}"
        return "Ed25519" if self.algorithm == ED25519 else "unknown"

    @property
    def ssh_line(self) -> str:
        """As authorized_keys has it (RFC 4253 6.6, RFC 5656 3.1, RFC 8709 4); empty where ssh has no such key."""
        if self.algorithm == RSA and _bits(self.parts[0]) <= MOST_RSA_BITS:
            modulus, exponent = self.parts
            return _line("ssh-rsa", exponent, modulus)
        if self.algorithm == EC and self.parts[0] in CURVES and self.parts[1][:1] == UNCOMPRESSED:
            curve = CURVES[self.parts[0]]
            return _line(f"ecdsa-sha2-{curve}", curve.encode(), self.parts[1])
        return _line("ssh-ed25519", *self.parts) if self.algorithm == ED25519 else ""


def of_certificate(info: Element) -> PublicKey:
    """From a SubjectPublicKeyInfo (RFC 5280 4.1)."""
    fields = der.inner(info)
    algorithm, parameters = _algorithm(der.at(fields, 0))
    bits = der.bits(der.at(fields, 1))
    if algorithm == RSA:
        return PublicKey(RSA, _numbers(der.inner(der.at(der.elements(bits), 0))))
    return PublicKey(algorithm, (parameters, bits) if algorithm == EC else (bits,))


def of_private_key(info: bytes) -> PublicKey | None:
    """The public half of a PrivateKeyInfo (RFC 5958 2); None where it can't be seen without computing it."""
    fields = der.inner(der.at(der.elements(info), 0))
    algorithm, parameters = _algorithm(der.at(fields, 1))
    if algorithm not in {RSA, EC}:
        return None
    key = der.inner(der.at(der.elements(der.content(der.at(fields, 2), der.OCTET_STRING)), 0))
    if algorithm == RSA:
        return PublicKey(RSA, _numbers(key[1:]))
    # RFC 5915 3: [1] is the public key. OpenSSL, which has written this, leaves it out of none.
    points = [element for element in key if element.tag == 0xA1]
    return PublicKey(EC, (parameters, der.bits(der.at(der.elements(points[0].content), 0)))) if points else None


def _algorithm(element: Element) -> tuple[bytes, bytes]:
    """The identifier, and the identifier among its parameters: a curve's, empty if there is none."""
    fields = der.inner(element)
    parameters = fields[1].content if len(fields) > 1 and fields[1].tag == der.OBJECT else b""
    return der.content(der.at(fields, 0), der.OBJECT), parameters


def _numbers(fields: list[Element]) -> tuple[bytes, bytes]:
    """Modulus and exponent."""
    return der.content(der.at(fields, 0), der.INTEGER), der.content(der.at(fields, 1), der.INTEGER)


def _bits(number: bytes) -> int:
    return int.from_bytes(number, "big").bit_length()


def _line(name: str, *parts: bytes) -> str:
    blob = b"".join(len(part).to_bytes(4, "big") + part for part in (name.encode(), *parts))
    return f"{name} {base64.b64encode(blob).decode()}"
