# SPDX-License-Identifier: Apache-2.0
"""Owns what a certificate says of itself: thumbprint, subject, end of validity, public key (RFC 5280 4.1).

Runs in the opener. It judges nothing: neither signature nor dates.
"""

from datetime import UTC, datetime
from importlib import import_module
from typing import Any, NamedTuple

from ipc.errors import InputError
from workers.opener import der, public_key
from workers.opener.der import Element
from workers.opener.public_key import PublicKey

UTC_TIME, GENERALIZED_TIME = 0x17, 0x18
NAMES = {
    "550403": "CN", "550405": "serialNumber", "550406": "C", "550407": "L", "550408": "ST", "55040a": "O",
    "55040b": "OU", "0992268993f22c640119": "DC", "0992268993f22c640101": "UID", "2a864886f70d010901": "emailAddress",
}  # fmt: skip
# How the text of a name may be written, by tag; whatever has another one is shown in hexadecimal.
TEXTS = {0x0C: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1E: "utf-16-be"}
MOST_SUBJECT_BYTES = 256
VERSION = 0xA0


def _sha1_module() -> Any:
    """The interpreter's own where it has one: hashlib would map all of OpenSSL, which takes as long as a worker's
    start. To be found before confinement."""
    try:
        return import_module("_sha1")
    except ImportError:
        return import_module("hashlib")


_SHA1 = _sha1_module()


class Facts(NamedTuple):
    """`thumbprint`: SHA-1 over DER in upper case; `not_after_s`: seconds since 1970."""

    thumbprint: str
    subject: str
    not_after_s: int
    key: PublicKey


class Described(NamedTuple):
    """By what a signature names a certificate, `number` and `issuer` in DER, and what it says of itself."""

    number: bytes
    issuer: bytes
    subject: str


def describe(certificate: Element) -> Described:
    """Of one among others. InputError when it is none."""
    fields = _fields(certificate)
    number, issuer, subject = (der.at(fields, index) for index in (0, 2, 4))
    return Described(der.content(number, der.INTEGER), der.content(issuer, der.SEQUENCE), _subject(subject))


def _fields(certificate: Element) -> list[Element]:
    """Serial number, signature, issuer, and what follows."""
    fields = der.inner(der.at(der.inner(certificate), 0))
    return fields[1:] if fields and fields[0].tag == VERSION else fields


def read(data: bytes) -> Facts:
    """The certificate in `data`. InputError for anything else."""
    fields = _fields(der.at(der.elements(data), 0))
    validity, subject, key = (der.at(fields, index) for index in (3, 4, 5))
    return Facts(
        _SHA1.sha1(data, usedforsecurity=False).hexdigest().upper(),
        _subject(subject),
        _time(der.at(der.inner(validity), 1)),
        public_key.of_certificate(key),
    )


def _subject(name: Element) -> str:
    """All parts in their order, as people read it."""
    parts = [part for group in der.inner(name) for part in der.inner(group, der.SET)]
    text = ", ".join(_part(der.inner(part)) for part in parts)
    return text.encode()[:MOST_SUBJECT_BYTES].decode("utf-8", "ignore")


def _part(fields: list[Element]) -> str:
    kind = der.content(der.at(fields, 0), der.OBJECT).hex()
    value = der.at(fields, 1)
    text = value.content.decode(TEXTS[value.tag], "replace") if value.tag in TEXTS else f"#{value.content.hex()}"
    shown = "".join(each if each.isprintable() else "?" for each in text)
    return f"{NAMES.get(kind, kind)}={shown}"


def _time(element: Element) -> int:
    """RFC 5280 4.1.2.5: two digits of a year from 50 on are of the last century."""
    text = element.content.decode("ascii", "replace")
    if element.tag == UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    digits = text[:-1]
    if element.tag not in {UTC_TIME, GENERALIZED_TIME} or text[-1:] != "Z" or len(digits) != 14 or not digits.isdigit():
        raise InputError("validity", "its end is no time as certificates have it")
    month, day, hour, minute, second = (int(digits[at : at + 2]) for at in range(4, 14, 2))
    try:
        return int(datetime(int(digits[:4]), month, day, hour, minute, second, tzinfo=UTC).timestamp())
    except ValueError:
        raise InputError("validity", "its end is no time as certificates have it") from None
