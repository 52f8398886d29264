# SPDX-License-Identifier: Apache-2.0
"""Owns what tests have the openssl program make: key pairs, PFX files, envelopes; runs in the test."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

RSA, EC, ED25519 = ("rsa:2048",), ("ec", "-pkeyopt", "ec_paramgen_curve:P-256"), ("ed25519",)
TRANSPORT = "/CN=LinuxTransport"


@dataclass(frozen=True)
class Pair:
    """A key and its certificate, in PEM, and the files with them."""

    key_file: Path
    certificate_file: Path

    @property
    def key(self) -> bytes:
        return self.key_file.read_bytes()

    @property
    def certificate(self) -> bytes:
        return self.certificate_file.read_bytes()


def openssl(*words: str, stdin: bytes = b"") -> bytes:
    """What the program prints; it has to succeed."""
    return subprocess.run(["openssl", *words], input=stdin, capture_output=True, check=True).stdout


def pair(folder: Path, name: str, kind: Sequence[str] = RSA, subject: str = TRANSPORT) -> Pair:
    """A fresh self-signed pair."""
    made = Pair(folder / f"{name}.key", folder / f"{name}.crt")
    files = ("-keyout", str(made.key_file), "-out", str(made.certificate_file))
    openssl("req", "-utf8", "-x509", "-newkey", *kind, "-nodes", "-subj", subject, "-days", "30", *files)
    return made


def pfx(pair: Pair, others: Path | None = None, *how: str) -> bytes:
    """A PFX with an empty password: one pair, and the certificates in the file `others`."""
    more = () if others is None else ("-certfile", str(others))
    files = ("-inkey", str(pair.key_file), "-in", str(pair.certificate_file), *more)
    return openssl("pkcs12", "-export", *files, "-passout", "pass:", *how)


def envelope(content: bytes, recipient: Pair, *how: str, others: Sequence[Pair] = ()) -> bytes:
    """`content` sealed for `recipient`, and as OpenSSL's default is for `others`."""
    words = ["cms", "-encrypt", "-binary", "-outform", "DER", "-recip", str(recipient.certificate_file), *how]
    for each in others:
        words += ["-recip", str(each.certificate_file)]
    return openssl(*words, stdin=content)
