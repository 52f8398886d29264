# SPDX-License-Identifier: Apache-2.0
"""The jobs of the opener and of its companion, which runs OpenSSL: certificates, passwords, FIPS configurations."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache

from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificate

from ipc.messages import (
    CertificatesOpened,
    ClearFormerVm,
    InputRefused,
    OpenCertificates,
    OpenPassword,
    Openssl,
    PasswordOpened,
    TransportKey,
)
from supervisor.vault.oneshot import make_transport_key
from tests.fabric.envelopes import Recipient, enveloped
from tests.fabric.tenant import Tenant
from tests.least.place import Place
from tests.least.scenario import Phase, Reply, Scenario, nothing
from tests.least.shapes import with_a_real_lib, with_a_real_lib64
from tests.opener.made import openssl

OPEN = OpenCertificates(Openssl())
CONFIGURATION = "/etc/ssl/openssl.cnf"
# A configuration that is needed: without it nobody can read what is encrypted with RC2.
LEGACY = """openssl_conf = all
[all]
providers = providers
[providers]
default = active
legacy = active
[active]
activate = 1
"""


def scenarios() -> Iterator[Scenario]:
    for phase in ("provisioning", "steady"):
        yield _certificates("certificates", _is_one, phase=phase)
    for shape in (with_a_real_lib, with_a_real_lib64):
        folder = shape.__name__.rpartition("_")[2]
        about = frozenset({f"/{folder}", f"/{folder} rx, not ro"})
        yield _certificates(f"a machine with a real {folder}", _is_one, prepare=shape, about=about)
    for folder in ("/etc/ssl", "/etc/pki/tls", "/etc/crypto-policies"):
        prepare = _configured_in(folder)
        about = frozenset({folder})
        yield _certificates(f"FIPS, as {folder} has it", _is_one, prepare, about, fips=True)
    given = tuple(("memfd", content) for content in _transport())
    request = OpenPassword(Openssl(), openssl("base64", "-A", stdin=_sealed("Pässwörd".encode("utf-16"))).decode())
    yield Scenario("opener", "a password", request, (PasswordOpened,), _is_the_password, given=given, phase="steady")
    refused = (("memfd", b"nothing"), *given)
    yield Scenario("opener", "no envelope", OPEN, (InputRefused,), _is_refused, given=refused, phase="steady")
    about = frozenset({"no-files"})
    yield Scenario("opener", "a fault, and where it was", ClearFormerVm("x"), (), _is_told, about=about, phase="steady")


def _certificates(
    name: str,
    check: Callable[[Place, Reply], None],
    prepare: Callable[[Place], None] = nothing,
    about: frozenset[str] = frozenset(),
    phase: Phase = "steady",
    *,
    fips: bool = False,
) -> Scenario:
    request = OpenCertificates(Openssl(is_fips=fips))
    given = tuple(("memfd", content) for content in (_sealed(_old_pfx() if fips else _pfx()), *_transport()))
    return Scenario("opener", name, request, (CertificatesOpened,), check, prepare, given, about, phase)


def _configured_in(folder: str) -> Callable[[Place], None]:
    def prepare(place: Place) -> None:
        file = f"{folder}/openssl.cnf"
        if file != CONFIGURATION:
            place.write(CONFIGURATION, f".include {file}\n")
        place.write(file, LEGACY)

    return prepare


@cache
def _key() -> TransportKey:
    return make_transport_key(30, datetime.now(UTC))


def _transport() -> tuple[bytes, bytes]:
    return _key().private_key.reveal().encode(), _key().certificate.encode()


def _sealed(content: bytes) -> bytes:
    certificate = load_pem_x509_certificate(_key().certificate.encode())
    return enveloped(content, Recipient(certificate.public_bytes(Encoding.DER)))


@cache
def _pfx() -> bytes:
    return Tenant.make(("rsa",), time.time()).pfx()


@cache
def _old_pfx() -> bytes:
    how = ("-legacy", "-certpbe", "PBE-SHA1-RC2-40", "-keypbe", "PBE-SHA1-RC2-40", "-passout", "pass:")
    return openssl("pkcs12", "-export", *how, stdin=b"".join(_transport()))


def _is_one(_: Place, reply: Reply) -> None:
    (row,) = reply.last(CertificatesOpened).certificates
    assert row.private_key is not None
    assert reply.contents[-1][1].startswith(b"-----BEGIN PRIVATE KEY")


def _is_the_password(_: Place, reply: Reply) -> None:
    reply.last(PasswordOpened)
    assert reply.contents[-1] == ("Pässwörd".encode(),)


def _is_refused(_: Place, reply: Reply) -> None:
    assert reply.last(InputRefused).where == "envelope"


def _is_told(_: Place, reply: Reply) -> None:
    assert reply.problem.partition(" ended with ")[2] in {"1", "70"}, reply.problem
    assert "Traceback" in reply.log
