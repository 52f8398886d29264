# SPDX-License-Identifier: Apache-2.0
"""Owns keys and certificates as OpenSSL prints those of a PFX, and which key belongs to which certificate.

Runs in the opener. What belongs to nothing or can't be read is left out, and named by its number, never by its content.
"""

import base64
import re
from collections.abc import Iterator
from typing import NamedTuple

from ipc.errors import InputError
from ipc.messages.vault import MOST_CERTIFICATES, OpenedCertificate, Span
from workers.opener import certificate, public_key
from workers.opener.certificate import Facts
from workers.opener.public_key import PublicKey

_BLOCK = re.compile(rb"-----BEGIN ([A-Z ]{1,40})-----\n([A-Za-z0-9+/=\n]+)-----END \1-----\n")
MOST_PROBLEMS = 16


class Opened(NamedTuple):
    """`rows`: their spans are those in `certificates` and in `keys`, all of them in PEM."""

    rows: tuple[OpenedCertificate, ...]
    certificates: bytes
    keys: bytes
    problems: tuple[str, ...]


class _Sheaf:
    """Blocks one after the other, each once, by whose it is; `spans` says where each lies."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.spans: dict[object, Span] = {}

    def add(self, of: object, block: bytes) -> None:
        if of not in self.spans:
            self.spans[of] = (len(self.content), len(block))
            self.content += block


def matched(text: bytes) -> Opened:
    """What `text` holds, beside other lines."""
    found: dict[str, Facts] = {}
    certificates, keys, problems = _Sheaf(), _Sheaf(), list[str]()
    for number, (label, block, data) in enumerate(_blocks(text), 1):
        try:
            if label == "CERTIFICATE":
                facts = certificate.read(data)
                found.setdefault(facts.thumbprint, facts)
                certificates.add(facts.thumbprint, block)
            else:
                keys.add(_key(label, data), block)
        except InputError as error:
            problems.append(f"object {number} of the PFX ({label.lower()}) is left out: {error}")
    taken = list(found.values())[:MOST_CERTIFICATES]
    if len(taken) < len(found):
        problems.append(f"{len(found)} certificates: all but the first {MOST_CERTIFICATES} are left out")
    rows = tuple(_row(facts, certificates, keys) for facts in taken)
    owned = {facts.key for facts in found.values()}
    problems += [f"{key.kind} key without a certificate: left out" for key in _keys(keys) if key not in owned]
    return Opened(rows, bytes(certificates.content), bytes(keys.content), tuple(problems[:MOST_PROBLEMS]))


def _blocks(text: bytes) -> Iterator[tuple[str, bytes, bytes]]:
    """Label, whole block, and what it holds."""
    for match in _BLOCK.finditer(text):
        try:
            yield match[1].decode(), match[0], base64.b64decode(match[2].replace(b"\n", b""), validate=True)
        except ValueError:
            yield match[1].decode(), match[0], b""


def _key(label: str, data: bytes) -> PublicKey:
    if label != "PRIVATE KEY":
        raise InputError("PEM", "neither a certificate nor a private key")
    public = public_key.of_private_key(data)
    if public is None:
        raise InputError("key", "of a kind for which a certificate can't be found: neither RSA nor EC")
    return public


def _keys(sheaf: _Sheaf) -> Iterator[PublicKey]:
    return (key for key in sheaf.spans if isinstance(key, PublicKey))


def _row(facts: Facts, certificates: _Sheaf, keys: _Sheaf) -> OpenedCertificate:
    return OpenedCertificate(
        facts.thumbprint,
        facts.subject,
        facts.not_after_s,
        facts.key.kind,
        facts.key.ssh_line,
        certificates.spans[facts.thumbprint],
        keys.spans.get(facts.key),
    )
