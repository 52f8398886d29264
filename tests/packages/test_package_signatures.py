# SPDX-License-Identifier: Apache-2.0
"""Who has signed a package: judged by this machine's OpenSSL, by the authorities that are handed over and no others."""

from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from ipc.messages import Openssl, PackageVerified, SignatureRefused, VerifyPackage
from tests.fabric.lab import Lab
from tests.fabric.package_signing import Signer
from tests.jail.mutants import Mutation
from tests.jail.rigged import HOME, Rig
from tests.packages.asked import ask, workers

pytestmark = pytest.mark.root

PACKAGE = bytes(range(256)) * 2000
COMPANION = "workers.programs.openssl"
# What keeps the machine's own authorities out of it, and the time.
WEAK = (
    Mutation(COMPANION, '"SSL_CERT_FILE": "/dev/null", "SSL_CERT_DIR": "/dev/null"', '"OTHERWISE": ""'),
    Mutation(COMPANION, '"any", "-no_check_time", "-no-CApath"', '"any"'),
)
OTHER = "the signature is over something else: the package was changed, or it is another one's"


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer.make("A publisher")


@pytest.fixture(scope="module")
def lab(signer: Signer) -> Iterator[Lab]:
    """A machine that trusts the publisher's authority for its connections: that is no trust in packages."""
    with Lab() as lab:
        trust(lab, signer)
        yield lab


def trust(lab: Lab, signer: Signer) -> None:
    (lab.path("/etc/ssl/certs") / "publisher.pem").write_bytes(signer.authority)
    lab.output("openssl", "rehash", "/etc/ssl/certs")


@pytest.fixture(scope="module")
def rig(lab: Lab) -> Iterator[Rig]:
    with workers(lab) as rig:
        yield rig


def verdict(lab: Lab, rig: Rig, signature: bytes, authorities: bytes, package: bytes = PACKAGE) -> str:
    """Whose signature it is, or why nobody's. The package is a file that only root may open."""
    path = lab.path(f"{HOME}/signed")
    path.write_bytes(package)
    path.chmod(0o600)
    given = [("file", f"{HOME}/signed"), ("memfd", signature.hex()), ("memfd", authorities.hex())]
    reply = ask(rig, "opener", VerifyPackage(Openssl()), given, PackageVerified, SignatureRefused)
    assert not reply.problem, reply.problem + reply.log
    answer = reply.messages[-1]
    return answer.signer if isinstance(answer, PackageVerified) else reply.last(SignatureRefused).problem


def test_a_good_signature_names_who_has_signed(lab: Lab, rig: Rig, signer: Signer) -> None:
    other = Signer.make("Another")
    for package in (PACKAGE, b"", bytes(3 << 20)):
        found = verdict(lab, rig, signer.sign(package), other.authority + signer.authority, package)
        assert found == "CN=A publisher"


def test_everything_else_is_refused_with_a_reason(lab: Lab, rig: Rig, signer: Signer) -> None:
    good, same_name = signer.sign(PACKAGE), Signer.make("A publisher")
    changed = bytearray(good)
    changed[-20] ^= 1
    assert verdict(lab, rig, signer.sign(PACKAGE + b"x"), signer.authority) == OTHER
    assert verdict(lab, rig, good, signer.authority, PACKAGE[:-1] + b"x") == OTHER
    assert verdict(lab, rig, bytes(changed), signer.authority) == OTHER
    assert verdict(lab, rig, same_name.sign(PACKAGE), signer.authority).startswith("who has signed it is not trusted")
    assert verdict(lab, rig, good, same_name.authority).startswith("who has signed it is not trusted")
    assert verdict(lab, rig, good, b"").startswith("no authority is trusted")
    for junk in (b"", b"junk", good[:-40], signer.certificate.public_bytes(Encoding.DER)):
        assert verdict(lab, rig, junk, signer.authority) == "the signature is none that OpenSSL can read"


def test_neither_the_machines_authorities_nor_the_time_count(lab: Lab, rig: Rig, signer: Signer) -> None:
    """A certificate that has expired since still counts: the signature was made while it was good."""
    nobody, expired = Signer.make("Nobody").authority, Signer.make("An old publisher", days=(-30, -1))
    assert verdict(lab, rig, signer.sign(PACKAGE), nobody).startswith("who has signed it is not trusted")
    assert verdict(lab, rig, expired.sign(PACKAGE), expired.authority) == "CN=An old publisher"
    with Lab() as other:
        trust(other, signer)
        with workers(other, WEAK) as weak:
            assert verdict(other, weak, signer.sign(PACKAGE), nobody) == "CN=A publisher"
            assert "expired" in verdict(other, weak, expired.sign(PACKAGE), expired.authority)
