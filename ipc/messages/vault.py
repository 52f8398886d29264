# SPDX-License-Identifier: Apache-2.0
"""Owns what the supervisor and the opener of envelopes say to each other, and that one and its companion.

Keys and passwords are never in a message, only in sealed memfds beside it. A span is (offset, size) in such a memfd.
"""

from typing import Annotated, Literal

import msgspec

from ipc.messages.base import Message, Short

MOST_CERTIFICATES = 64
MOST_ENVELOPE_BYTES = 1024 * 1024
Thumbprint = Annotated[str, msgspec.Meta(pattern=r"^[0-9A-F]{40}\Z")]
Span = tuple[Annotated[int, msgspec.Meta(ge=0)], Annotated[int, msgspec.Meta(ge=1, le=65536)]]


class Openssl(Message, frozen=True):
    """Which OpenSSL opens: the program at `path`, empty for that of the system's folders; with `is_fips` as the host's
    own configuration sets it up, else as it is without any."""

    path: Annotated[str, msgspec.Meta(pattern=r"^(/[^\0]*)?\Z", max_length=1024)] = ""
    is_fips: bool = False


class OpenCertificates(Message, frozen=True):
    """To the opener: the VM's certificates (wire-protocol.md 5.2). Three sealed memfds: the CMS envelope in DER, the
    transport key and its certificate in PEM. The answer is CertificatesOpened."""

    openssl: Openssl


class OpenPassword(Message, frozen=True):
    """To the opener: the password of an account (wire-protocol.md 8). `envelope` is base64 of DER; two sealed memfds,
    the transport key and its certificate in PEM. The answer is PasswordOpened."""

    openssl: Openssl
    envelope: Annotated[str, msgspec.Meta(max_length=16384)]


class OpenedCertificate(Message, frozen=True):
    """One certificate. `thumbprint`: SHA-1 over DER. `ssh_public_key`: a line for authorized_keys, without a comment;
    empty for a key that ssh does not have. `certificate` and `private_key`: where each is in its memfd, in PEM."""

    thumbprint: Thumbprint
    subject: Annotated[str, msgspec.Meta(max_length=256)]
    not_after_s: Annotated[int, msgspec.Meta(ge=-62_135_596_800, le=253_402_300_799)]
    key_kind: Annotated[str, msgspec.Meta(max_length=32)]
    ssh_public_key: Annotated[str, msgspec.Meta(max_length=1600)]
    certificate: Span
    private_key: Span | None


class CertificatesOpened(Message, frozen=True):
    """From the opener, with two sealed memfds: all certificates and all private keys. `problems`: what was left out."""

    certificates: Annotated[tuple[OpenedCertificate, ...], msgspec.Meta(max_length=MOST_CERTIFICATES)]
    problems: Annotated[tuple[Short, ...], msgspec.Meta(max_length=16)]


class PasswordOpened(Message, frozen=True):
    """From the opener, with one sealed memfd: the password in UTF-8."""


class DecryptEnvelope(Message, frozen=True):
    """Opener to companion. Four memfds: the envelope in DER, key and certificate of the recipient in PEM, and an empty
    one for what is in the envelope. The answer is ProgramEnded or ProgramFailed."""

    openssl: Openssl


class VerifySignature(Message, frozen=True):
    """Opener to companion. Four descriptors: a signature (DER of CMS signed data without the data), the file that it is
    to be over, the authorities that count, in PEM, and an empty memfd, which stays so. The answer is ProgramEnded, with
    what the program said, or ProgramFailed."""

    openssl: Openssl


class UnpackPfx(Message, frozen=True):
    """Opener to companion. Two memfds: a PFX with an empty password, and an empty one for keys and certificates in PEM.
    `integrity`: whether its MAC is to be checked. The answer is ProgramEnded or ProgramFailed."""

    openssl: Openssl
    integrity: Literal["checked", "ignored"]
