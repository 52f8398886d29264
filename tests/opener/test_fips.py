# SPDX-License-Identifier: Apache-2.0
"""On a FIPS host OpenSSL is as that host's configuration has it, everywhere else that is not even read.

With OpenSSL's own FIPS module, where this machine has one beside its other modules (Debian ships none: it can be built
from OpenSSL's source by `./Configure enable-fips`), envelopes are opened by it and nothing else.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc.messages import CertificatesOpened, InputRefused, Openssl
from tests.fabric.lab import Lab, PlacedFile
from tests.fabric.tenant import Tenant
from tests.jail.mutants import Mutation
from tests.jail.rigged import Rig
from tests.opener import made
from tests.opener.asked import certificates, opener
from tests.opener.made import Pair

pytestmark = pytest.mark.root

FIPS, PLAIN = Openssl(is_fips=True), Openssl()
# With this nothing that is not validated can be had; and without a module that is, nothing at all.
CONFIGURATION = """openssl_conf = all
{include}
[all]
providers = providers
alg_section = properties
[providers]
base = base
{provider}
[base]
activate = 1
[properties]
default_properties = fips=yes
"""
READS_ANYTHING = Mutation("workers.programs.openssl", '"OPENSSL_CONF": "/dev/null"', '"OTHERWISE": ""')


def configured(module: Path | None = None) -> dict[str, bytes | PlacedFile]:
    """Files of a host whose OpenSSL is set up for FIPS, with the module if it is there."""
    if module is None:
        text = CONFIGURATION.format(include="[default]\nactivate = 1", provider="default = default")
        return {"/etc/ssl/openssl.cnf": text.encode()}
    text = CONFIGURATION.format(include=".include /etc/ssl/fipsmodule.cnf", provider="fips = fips_sect")
    installed = made.openssl("fipsinstall", "-quiet", "-module", str(module))
    return {"/etc/ssl/openssl.cnf": text.encode(), "/etc/ssl/fipsmodule.cnf": installed}


@pytest.fixture(scope="module")
def transport(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return made.pair(tmp_path_factory.mktemp("fips"), "transport")


@pytest.fixture(scope="module")
def tenant() -> Tenant:
    return Tenant.make(("rsa", "ec"), time.time())


@pytest.fixture(scope="module")
def host() -> Iterator[Lab]:
    with Lab(configured()) as lab:
        yield lab


def opens(rig: Rig, envelope: bytes, transport: Pair, how: Openssl) -> bool:
    reply = certificates(rig, envelope, transport, how)
    return isinstance(reply.messages[-1], CertificatesOpened)


def test_only_a_fips_host_has_its_configuration_read(host: Lab, transport: Pair, tenant: Tenant) -> None:
    envelope = made.envelope(tenant.pfx(), transport, "-aes128")
    with opener(host) as rig:
        assert [opens(rig, envelope, transport, how) for how in (PLAIN, FIPS)] == [True, False]
    with opener(host, (READS_ANYTHING,)) as rig:
        assert [opens(rig, envelope, transport, how) for how in (PLAIN, FIPS)] == [False, False]


def module() -> Path | None:
    """OpenSSL's FIPS module of this machine."""
    folder = made.openssl("version", "-m").decode().partition('"')[2].partition('"')[0]
    path = Path(folder, "fips.so")
    return path if path.is_file() else None


@pytest.mark.skipif(module() is None, reason="this machine's OpenSSL has no FIPS module")
def test_with_a_fips_module_aes_is_opened_and_what_it_lacks_is_named(transport: Pair, tenant: Tenant) -> None:
    with Lab(configured(module())) as lab, opener(lab) as rig:
        for mac in ("none", "sha1", "sha256"):
            for form in (("-aes128",), ("-aes256", "-keyid"), ("-aes128", "-keyopt", "rsa_padding_mode:oaep")):
                envelope = made.envelope(tenant.pfx("aes", mac), transport, *form)
                assert opens(rig, envelope, transport, FIPS)
        old = certificates(rig, made.envelope(tenant.pfx("3des", "sha1"), transport, "-aes128"), transport, FIPS)
        assert old.last(InputRefused).problem.endswith(": this machine's OpenSSL has no PKCS12KDF")
        assert opens(rig, made.envelope(tenant.pfx("3des", "sha1"), transport, "-aes128"), transport, PLAIN)
