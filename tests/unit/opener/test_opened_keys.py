# SPDX-License-Identifier: Apache-2.0
"""Whatever OpenSSL prints, the opener makes typed, bounded rows of it, or says what it left out."""

import base64
import datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from ipc.codec import decode, encode
from ipc.errors import InputError, MalformedMessage
from ipc.messages import CertificatesOpened, OpenedCertificate
from workers.opener import certificate, der, pem

KEY = ec.generate_private_key(ec.SECP384R1())
NOW = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)


def made(ends: datetime.datetime, *names: tuple[x509.ObjectIdentifier, str]) -> bytes:
    name = x509.Name([x509.NameAttribute(kind, text) for kind, text in names])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(KEY.public_key())
    signed = builder.serial_number(1).not_valid_before(NOW).not_valid_after(ends).sign(KEY, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.DER)


GOOD = made(NOW + datetime.timedelta(days=1), (NameOID.COMMON_NAME, "vm"))
PRIVATE = KEY.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def block(label: str, content: bytes) -> bytes:
    return f"-----BEGIN {label}-----\n{base64.encodebytes(content).decode()}-----END {label}-----\n".encode()


TEXT = b"Bag Attributes\n    friendlyName: x\n" + block("CERTIFICATE", GOOD) + block("PRIVATE KEY", PRIVATE)


@pytest.mark.parametrize(("year", "kind"), [(2049, "UTCTime"), (2050, "GeneralizedTime"), (9999, "GeneralizedTime")])
def test_the_end_of_validity_is_read_in_both_forms(year: int, kind: str) -> None:
    ends = datetime.datetime(year, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)
    data = made(ends, (NameOID.COMMON_NAME, "vm"))
    assert (bytes([certificate.UTC_TIME, 13]) + ends.strftime("%y%m").encode() in data) == (kind == "UTCTime")
    assert certificate.read(data).not_after_s == int(ends.timestamp())


def test_a_subject_can_steer_no_terminal_and_fill_no_frame() -> None:
    names = ((NameOID.ORGANIZATION_NAME, "a\x1b[2Jb"), (NameOID.COMMON_NAME, "x" * 64), (NameOID.TITLE, "y" * 64))
    subject = certificate.read(made(NOW + datetime.timedelta(days=1), *names * 3)).subject
    assert subject.startswith(f"O=a?[2Jb, CN={'x' * 64}, 55040c={'y' * 64}, O=")
    assert len(subject) == certificate.MOST_SUBJECT_BYTES


@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_a_certificate_with_a_byte_changed_is_read_or_refused(place: int, value: int) -> None:
    try:
        found = certificate.read(GOOD[:place] + bytes([value]) + GOOD[place + 1 :])
    except InputError:
        return
    assert found.subject.isprintable()
    assert len(found.subject) <= certificate.MOST_SUBJECT_BYTES


@given(st.binary(max_size=300))
def test_noise_is_der_or_is_refused(noise: bytes) -> None:
    try:
        found = der.elements(noise)
    except InputError:
        return
    assert sum(len(each.content) + 2 for each in found) <= len(noise)


@given(
    st.lists(st.sampled_from([TEXT, TEXT[:100], b"-----BEGIN CERTIFICATE-----\n", b"\0\xff", TEXT[150:]]), max_size=6)
)
def test_whatever_is_printed_the_answer_can_be_sent(pieces: list[bytes]) -> None:
    opened = pem.matched(b"".join(pieces))
    message = CertificatesOpened(opened.rows, opened.problems)
    assert decode(encode(message, 0)).message == message
    for row in opened.rows:
        offset, size = row.certificate
        assert opened.certificates[offset : offset + size].startswith(b"-----BEGIN CERTIFICATE-----\n")


def test_the_largest_answer_has_room_in_a_frame() -> None:
    row = pem.matched(TEXT).rows[0]
    longest = type(row)(row.thumbprint, "x" * 256, 2**40, "k" * 32, "s" * 1600, (2**20, 65536), (2**20, 65536))
    encode(CertificatesOpened((longest,) * 64, ("p" * 1024,) * 16), 0)


def test_keys_are_told_apart_from_what_is_none() -> None:
    text = TEXT + block("RSA PRIVATE KEY", PRIVATE) + block("PRIVATE KEY", PRIVATE[:-20]) + block("CERTIFICATE", b"x")
    opened = pem.matched(text)
    assert [row.private_key for row in opened.rows] == [(0, len(block("PRIVATE KEY", PRIVATE)))]
    assert len(opened.problems) == 3
    assert not any(base64.b64encode(PRIVATE[30:60]).decode()[:20] in problem for problem in opened.problems)


@pytest.mark.parametrize(("thumbprint", "not_after_s"), [("A" * 40 + "\n", 1), ("A" * 40, 10**18)])
def test_what_no_certificate_says_is_no_answer(thumbprint: str, not_after_s: int) -> None:
    row = OpenedCertificate(thumbprint, "CN=x", not_after_s, "RSA 2048", "ssh-rsa AAAA", (0, 1), None)
    with pytest.raises(MalformedMessage):
        decode(encode(CertificatesOpened((row,), ()), 0))
