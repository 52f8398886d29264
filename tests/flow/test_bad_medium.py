# SPDX-License-Identifier: Apache-2.0
"""A provisioning medium that is absent, damaged or says the impossible: the host learns why, and nothing is applied."""

import os
import re
from collections.abc import Iterator

import pytest

from tests.fabric.media import TYPICAL_BYTES, damaged_media, make_medium, make_ovf
from tests.fabric.scene import KEY, Wanted
from tests.fabric.udf_writer import make_udf
from tests.fabric.vm import PS_WITHIN_S, Ahead, Vm, booted

pytestmark = pytest.mark.root

WANTED = Wanted()
OVF = WANTED.ovf()
DAMAGED = damaged_media(OVF)
FAILED = "NotReady ProvisioningFailed"
PASSWORD = str(WANTED.password)

# What is in the drive, and what the report must name: the thing, then what is wrong with it.
MEDIA: dict[str, tuple[bytes | None, tuple[str, ...]]] = {
    "absent": (None, ("a CD or DVD drive in /dev", "there is none")),
    "empty": (b"", ("/dev/sr0", "empty")),
    "zeros": (bytes(TYPICAL_BYTES), ("/dev/sr0", "UDF", "ISO9660")),
    "random": (DAMAGED["random"], ("/dev/sr0", "UDF", "ISO9660")),
    "not a file system": (OVF, ("/dev/sr0", "UDF", "ISO9660")),
    "truncated before the anchor": (DAMAGED["truncated before the anchor"], ("/dev/sr0", "UDF")),
    "truncated in the partition": (DAMAGED["truncated in the partition"], ("/dev/sr0",)),
    "iso truncated": (DAMAGED["iso truncated"], ("/dev/sr0", "ISO9660")),
    "directory loop": (DAMAGED["directory loop"], ("/dev/sr0", "ovf-env.xml")),
    "extent past the end": (DAMAGED["extent past the end"], ("/dev/sr0", "past")),
    "no ovf-env.xml": (DAMAGED["no ovf-env.xml"], ("/dev/sr0", "ovf-env.xml")),
}


def without(element: str) -> bytes:
    """The document without every element of that name, its content included."""
    cut, number = re.subn(rf"<(wa:)?{element}( [^>]*)?>.*?</(wa:)?{element}>".encode(), b"", OVF, flags=re.DOTALL)
    assert number, f"the document has no {element}"
    return cut


def with_head(doctype: str) -> bytes:
    """The document with `doctype` before its root element."""
    return OVF.replace(b"?>\n", f"?>\n{doctype}\n".encode(), 1)


def asking(user: str = WANTED.user, host_name: str = WANTED.host_name, key: str = KEY) -> bytes:
    """A well-formed document that asks for these."""
    return make_ovf(user, WANTED.password, host_name, [key], key_path="/home/azureuser/.ssh/authorized_keys")


LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
DOCUMENTS: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "not XML": (b"user=azureuser\npassword=" + PASSWORD.encode() + b"\n", ("line 1",)),
    "cut off": (OVF[: len(OVF) // 2], ("line",)),
    "empty": (b"", ("empty",)),
    "a DTD": (with_head("<!DOCTYPE Environment>"), ("document type",)),
    "entities": (with_head(LAUGHS).replace(b"azureuser<", b"&b;<"), ("document type",)),
    "no ProvisioningSection": (without("ProvisioningSection"), ("ProvisioningSection on", "is missing")),
    "no Version": (OVF.replace(b"<wa:Version>1.0</wa:Version>\n", b"", 1), ("Version", "missing")),
    "no configuration set": (
        without("LinuxProvisioningConfigurationSet"),
        ("LinuxProvisioningConfigurationSet on", "is missing"),
    ),
    "no HostName": (without("HostName"), ("HostName", "missing or empty")),
    "no UserName": (without("UserName"), ("UserName", "missing or empty")),
    "no PlatformSettingsSection": (without("PlatformSettingsSection"), ("PlatformSettingsSection on", "is missing")),
    "no PlatformSettings": (without("PlatformSettings"), ("PlatformSettings on", "is missing")),
    "no ProvisionGuestAgent": (without("ProvisionGuestAgent"), ("ProvisionGuestAgent", "missing or empty")),
    "an empty user name": (asking(user=""), ("UserName", "missing or empty")),
    "user root": (asking(user="root"), ("UserName", "root is not provisioned")),
    "a user name that is an option": (asking(user="--help"), ("UserName", "is not 1 to 32 of")),
    "a host name with spaces": (asking(host_name="my first vm"), ("HostName", "is not made of labels")),
    "a key of two lines": (asking(key=f"{KEY}\n{KEY}"), ("PublicKey/Value", "is not one line")),
    "a key with options": (asking(key=f'command="id" {KEY}'), ("PublicKey/Value", "does not begin with a key type")),
    "a key outside the home": (
        make_ovf(WANTED.user, PASSWORD, "vm", [KEY], key_path="/root/.ssh/authorized_keys"),
        ("PublicKey/Path", "is not below /home/azureuser"),
    ),
}


def expect_failure(vm: Vm, words: tuple[str, ...]) -> None:
    """One clear report, nothing applied, both processes as they were, and `ps` tells the same story."""
    residents = vm.residents()
    report = vm.wait_until_decided()
    assert report.startswith(FAILED)
    assert [word for word in words if word not in report] == [], report
    reason = report.removeprefix(FAILED).strip()
    assert vm.ps().overview.provisioning == f"failed: {reason}"
    assert vm.ps().overview.counters.violations == 0
    assert f"failed: {reason}" in vm.scene.log()
    assert vm.applied() == []
    assert vm.told(PASSWORD) == []
    assert vm.residents() == residents
    assert vm.agent.poll() is None
    assert vm.slowest_ps_s < PS_WITHIN_S
    assert (vm.readies(), vm.refused()) == (0, [])


def read_medium(case: str) -> None:
    medium, words = MEDIA[case]
    with booted() as vm:
        vm.boot(medium)
        expect_failure(vm, words)


def read_document(case: str) -> None:
    document, words = DOCUMENTS[case]
    with booted() as vm:
        vm.boot(make_udf(document))
        expect_failure(vm, ("ovf-env.xml", *words))


@pytest.fixture(scope="module")
def media() -> Iterator[Ahead[str]]:
    ahead = Ahead(MEDIA, read_medium)
    yield ahead
    ahead.close()


@pytest.fixture(scope="module")
def documents() -> Iterator[Ahead[str]]:
    ahead = Ahead(DOCUMENTS, read_document)
    yield ahead
    ahead.close()


@pytest.mark.parametrize("case", MEDIA)
def test_a_medium_that_can_not_be_read_is_reported(media: Ahead[str], case: str) -> None:
    media.check(case)


@pytest.mark.parametrize("case", DOCUMENTS)
def test_a_document_that_can_not_be_used_is_reported(documents: Ahead[str], case: str) -> None:
    documents.check(case)


def test_ps_shows_the_failure_and_the_next_start_mends_it() -> None:
    with booted() as vm:
        vm.boot(None)
        vm.wait_until_decided()
        assert "provisioning: failed: no provisioning medium" in vm.ps_command()
        assert vm.scene.stop_agent(vm.agent) == 0
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        assert (vm.mistakes(), vm.readies()) == ([], 1)


def test_a_medium_that_comes_late_is_found() -> None:
    with booted(config=b"Provisioning.MediaTimeout=10\nProvisioning.SshHostKeyPairType=ed25519\n") as vm:
        vm.boot(b"")
        supervisor = vm.residents()[1]
        vm.scene.insert(vm.wanted.medium())
        vm.scene.wait_until_ready()
        assert vm.residents()[1] == supervisor
        os.kill(supervisor, 0)


@pytest.mark.parametrize("form", ["udf", "iso", "bridge", "wiped"])
def test_every_form_of_medium_is_read(form: str) -> None:
    with booted() as vm:
        vm.boot(make_medium(OVF, form))
        vm.scene.wait_until_ready()
        assert vm.mistakes() == []
