# SPDX-License-Identifier: Apache-2.0
"""Envelopes as the platform makes them, and others: opened by the real opener with this machine's OpenSSL, or refused.

What is made here is made by the openssl program, and by the emulated host's own code, which shares none with ours.
"""

import base64
import hashlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc.messages import CertificatesOpened, InputRefused, OpenPassword, Openssl, PasswordOpened
from tests.fabric.lab import Lab
from tests.fabric.tenant import Tenant
from tests.jail.rigged import Rig
from tests.least.scenario import Reply
from tests.opener import made
from tests.opener.asked import PLAIN, ask, certificates, opener
from tests.opener.made import Pair

pytestmark = pytest.mark.root

CLOSED = "can't be opened with this VM's transport key"
OAEP = ("-keyopt", "rsa_padding_mode:oaep")
FORMS = {
    "AES-128, by issuer and number": ("-aes128",),
    "AES-128, by key identifier": ("-aes128", "-keyid"),
    "AES-192": ("-aes192",),
    "AES-256": ("-aes256",),
    "3DES, by key identifier": ("-des3", "-keyid"),
    "OAEP": ("-aes128", *OAEP),
    "BER of indefinite length": ("-aes128", "-stream"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("opener")


@pytest.fixture(scope="module")
def transport(folder: Path) -> Pair:
    return made.pair(folder, "transport")


@pytest.fixture(scope="module")
def tenant() -> Tenant:
    return Tenant.make(("rsa", "ec", "keyless", "rsa"), time.time())


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with Lab() as lab, opener(lab) as rig:
        yield rig


def refused(reply: Reply) -> tuple[str, str]:
    answer = reply.last(InputRefused)
    return answer.where, answer.problem


def named(reply: Reply) -> dict[str, bool]:
    """Thumbprint -> whether the key is there."""
    return {row.thumbprint: row.private_key is not None for row in reply.last(CertificatesOpened).certificates}


def holdings(tenant: Tenant) -> dict[str, bool]:
    return {each.thumbprint: each.is_whole for each in tenant.holdings if each.certificate}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_envelope_is_opened(form: str, rig: Rig, transport: Pair, tenant: Tenant) -> None:
    envelope = made.envelope(tenant.pfx(), transport, *FORMS[form])
    assert (envelope[:2] == b"\x30\x80") == (form == "BER of indefinite length")
    assert named(certificates(rig, envelope, transport)) == holdings(tenant)


def test_our_part_of_an_envelope_for_several_is_found(rig: Rig, transport: Pair, tenant: Tenant, folder: Path) -> None:
    others = [made.pair(folder, "other"), made.pair(folder, "other-ec", made.EC)]
    envelope = made.envelope(tenant.pfx(), others[0], "-aes128", others=(others[1], transport))
    assert named(certificates(rig, envelope, transport)) == holdings(tenant)


@pytest.mark.parametrize("protection", ["none", "3des", "aes"])
@pytest.mark.parametrize("mac", ["none", "sha1", "sha256"])
def test_every_form_of_pfx_is_unpacked(protection: str, mac: str, rig: Rig, transport: Pair, tenant: Tenant) -> None:
    reply = certificates(rig, made.envelope(tenant.pfx(protection, mac), transport, "-aes128"), transport)
    assert named(reply) == holdings(tenant)
    assert reply.last(CertificatesOpened).problems == ()


def test_what_is_told_of_each_is_what_others_read_there(
    rig: Rig, transport: Pair, tenant: Tenant, folder: Path
) -> None:
    """Thumbprint, end of validity, public key and private key, as the openssl program and ssh-keygen have them."""
    reply = certificates(rig, made.envelope(tenant.pfx(), transport, "-aes128"), transport)
    text, keys = reply.contents[-1]
    for row in reply.last(CertificatesOpened).certificates:
        offset, size = row.certificate
        pem = text[offset : offset + size]
        assert hashlib.sha1(made.openssl("x509", "-outform", "DER", stdin=pem)).hexdigest().upper() == row.thumbprint
        ends = made.openssl("x509", "-noout", "-enddate", "-dateopt", "iso_8601", stdin=pem).decode().strip()
        assert ends == time.strftime("notAfter=%Y-%m-%d %H:%M:%SZ", time.gmtime(row.not_after_s))
        assert f"subject={row.subject}".replace(" ", "") == made.openssl(
            "x509", "-noout", "-subject", "-nameopt", "utf8,sep_comma_plus", stdin=pem
        ).decode().strip().replace(" ", "")
        public = made.openssl("x509", "-noout", "-pubkey", stdin=pem)
        (folder / "public.pem").write_bytes(public)
        line = subprocess.run(
            ["ssh-keygen", "-i", "-m", "PKCS8", "-f", str(folder / "public.pem")], capture_output=True, check=True
        ).stdout.decode()
        assert row.ssh_public_key == line.strip()
        assert row.key_kind == ("EC nistp256" if "ecdsa" in line else "RSA 2048")
        if row.private_key is not None:
            offset, size = row.private_key
            assert made.openssl("pkey", "-pubout", stdin=keys[offset : offset + size]) == public


def test_what_belongs_to_nothing_is_left_out_and_told(rig: Rig, transport: Pair, folder: Path) -> None:
    tenant = Tenant.make(("rsa", "orphan"), time.time())
    reply = certificates(rig, made.envelope(tenant.pfx(), transport, "-aes128"), transport)
    assert named(reply) == holdings(tenant)
    (problem,) = reply.last(CertificatesOpened).problems
    assert problem.endswith("key without a certificate: left out")
    odd = made.pair(folder, "odd", made.ED25519, "/O=Ünïcode, Inc./CN=odd")
    reply = certificates(rig, made.envelope(made.pfx(odd), transport, "-aes128"), transport)
    (row,) = reply.last(CertificatesOpened).certificates
    assert (row.private_key, row.key_kind, row.subject) == (None, "Ed25519", "O=Ünïcode, Inc., CN=odd")
    assert row.ssh_public_key.startswith("ssh-ed25519 ")
    (problem,) = reply.last(CertificatesOpened).problems
    assert "(private key) is left out: key: of a kind for which a certificate can't be found" in problem


def test_sixty_four_certificates_are_taken_and_no_more(rig: Rig, transport: Pair, folder: Path) -> None:
    first = made.pair(folder, "first")
    others = [made.pair(folder, f"many-{number}", made.EC, f"/CN={'x' * 60}{number}") for number in range(64)]
    chain = folder / "many.pem"
    for count, problems in ((63, 0), (64, 1)):
        chain.write_bytes(b"".join(each.certificate for each in others[:count]))
        reply = certificates(rig, made.envelope(made.pfx(first, chain), transport, "-aes128"), transport)
        assert len(named(reply)) == 64
        assert len(reply.last(CertificatesOpened).problems) == problems


def test_no_certificate_at_all_is_an_answer(rig: Rig, transport: Pair) -> None:
    reply = certificates(rig, made.envelope(Tenant().pfx(), transport, "-aes128"), transport)
    assert named(reply) == {}
    assert reply.contents[-1] == (b"", b"")


def test_whatever_is_wrong_with_an_envelope_has_one_answer(
    rig: Rig, transport: Pair, tenant: Tenant, folder: Path
) -> None:
    """Nor does what comes out with a wrong key, by RSA's implicit rejection, tell anything else."""
    envelope = made.envelope(tenant.pfx(), transport, "-aes128")
    stranger = made.pair(folder, "stranger")
    false = Pair(stranger.key_file, transport.certificate_file)
    for wrong, by in (
        (envelope, stranger),
        (envelope, false),
        (envelope[: len(envelope) // 2], transport),
        (envelope[:-1], transport),
        (b"", transport),
        (b"\x30\x80" * 5000, transport),
        (made.envelope(b"no PFX", transport, "-aes128"), transport),
        (made.envelope(tenant.pfx()[:-40], transport, "-aes128"), transport),
    ):
        assert refused(certificates(rig, wrong, by)) == ("envelope", CLOSED)


def test_what_is_too_large_is_not_even_looked_at(rig: Rig, transport: Pair) -> None:
    where, problem = refused(certificates(rig, bytes(2 << 20), transport))
    assert (where, problem) == ("envelope", "2097152 bytes are over the limit of 1048576")


def test_an_algorithm_that_this_openssl_has_not_is_named(rig: Rig, transport: Pair, folder: Path) -> None:
    old = made.pfx(made.pair(folder, "old"), None, "-legacy", "-certpbe", "PBE-SHA1-RC2-40", "-keypbe", "PBE-SHA1-3DES")
    reply = certificates(rig, made.envelope(old, transport, "-aes128"), transport)
    assert refused(reply) == ("envelope", f"{CLOSED}: this machine's OpenSSL has no RC2-40-CBC")


def test_the_openssl_that_is_named_is_the_one_that_runs(rig: Rig, transport: Pair, tenant: Tenant) -> None:
    envelope = made.envelope(tenant.pfx(), transport, "-aes128")
    assert named(certificates(rig, envelope, transport, Openssl("/usr/bin/openssl"))) == holdings(tenant)
    for path, told in (
        ("/opt/openssl", "program /opt/openssl does not start: No such file or directory"),
        ("/etc/ssl/openssl", "program /etc/ssl/openssl does not start: No such file or directory"),
        ("/bin/sh", "policy names no program 'sh'"),
    ):
        assert refused(certificates(rig, envelope, transport, Openssl(path))) == ("OpenSSL", told)
    assert "MalformedMessage" in certificates(rig, envelope, transport, Openssl("../openssl")).problem


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_a_password_comes_out_in_utf_8(encoding: str, rig: Rig, transport: Pair) -> None:
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    for password in ("Pässwörd-1", "p" * 1024):
        reply = opened_password(rig, transport, mark + password.encode(encoding))
        assert reply.last(PasswordOpened) == PasswordOpened()
        assert reply.contents[-1] == (password.encode(),)


def test_what_is_no_password_has_the_one_answer(rig: Rig, transport: Pair) -> None:
    for content in (b"", b"\xff\xfe", b"\xff\xfex", "p" * 1025, "two\nlines", "a\0b", b"\xff\xfe\x00\xd8"):
        text = content.encode("utf-16") if isinstance(content, str) else content
        assert refused(opened_password(rig, transport, text)) == ("envelope", CLOSED)
    request = OpenPassword(PLAIN, "no base64!")
    assert refused(ask(rig, request, PasswordOpened, transport.key, transport.certificate)) == (
        "envelope",
        "is no base64",
    )


def opened_password(rig: Rig, transport: Pair, content: bytes) -> Reply:
    envelope = base64.b64encode(made.envelope(content, transport, "-aes128")).decode()
    return ask(rig, OpenPassword(PLAIN, envelope), PasswordOpened, transport.key, transport.certificate)
