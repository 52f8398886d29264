# SPDX-License-Identifier: Apache-2.0
"""The emulated host publishes goal states with extensions, certificates and accounts; what it seals can be opened."""

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.fabric import publishing
from tests.fabric.plan import BREAKAGES, Plan, Plugin, Settings
from tests.fabric.tenant import KINDS, MACS, PROTECTIONS, Tenant
from tests.fabric.wire_client import ask_once, get_goal_state, get_part
from tests.fabric.wire_headers import CIPHERS
from tests.fabric.wire_rules import Offer
from tests.fabric.wire_wrongs import CERTIFICATE
from tests.fabric.wireserver import Options, WireServer


class Vm:
    """One that asks the host, with a key of its own."""

    def __init__(self, server: WireServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        (self.holding,) = Tenant.make(("rsa",), server.recording.clock.wall()).holdings
        certificate = x509.load_der_x509_certificate(self.holding.certificate)
        (folder / "vm.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        (folder / "vm.key").write_bytes(self.holding.key)

    def part(self, name: str, cipher: str = "AES128_CBC") -> ET.Element:
        """A document of the current goal state."""
        ask_once(self.server.address, get_goal_state(self.server.address))
        draft = get_part(self.server.address, self.server.goal_state, name).having("x-ms-cipher-name", cipher)
        header = base64.b64encode(self.holding.certificate).decode()
        return ET.fromstring(ask_once(self.server.address, draft.having(CERTIFICATE, header)).body)

    def opened(self, sealed: str) -> bytes:
        """What is in an envelope for this VM, in base64."""
        command = "openssl cms -decrypt -inform DER -inkey vm.key -recip vm.crt"
        return self.run(command, base64.b64decode(sealed))

    def run(self, command: str, given: bytes) -> bytes:
        """The output of a program that has to work."""
        return subprocess.run(command.split(), input=given, capture_output=True, check=True, cwd=self.folder).stdout


@pytest.fixture
def vm(tmp_path: Path) -> Iterator[Vm]:
    with WireServer() as server:
        yield Vm(server, tmp_path)


def command(vm: Vm, *words: str, **plan: object) -> dict[str, object]:
    return publishing.publish(vm.server, " ".join((*words, json.dumps(plan) if plan else "")))


@pytest.mark.parametrize("padding", ["v15", "oaep"])
@pytest.mark.parametrize("cipher", CIPHERS)
def test_the_hosts_program_opens_what_is_sealed_for_a_vm(vm: Vm, cipher: str, padding: str) -> None:
    """Several keys and certificates in one PFX, however it is protected."""
    command(vm, "publish", f"certificates={','.join(KINDS)}")
    for protection in PROTECTIONS:
        for mac in MACS:
            command(vm, "envelopes", f"padding={padding}", f"pfx={protection}", f"mac={mac}")
            pfx = vm.opened(vm.part("certificates", cipher).findtext("Data") or "")
            without = " -nomacver" if mac == "none" else ""
            text = vm.run(f"openssl pkcs12 -nodes -passin pass:{without}", pfx)
            assert (text.count(b"BEGIN PRIVATE"), text.count(b"BEGIN CERT")) == (3, 3)
    assert vm.server.refusals == ()


def test_a_plan_is_published_in_all_its_parts(vm: Vm) -> None:
    settings = {"sequence": 3, "public": {"a": "<&>"}, "protected": {"key": "value"}, "level": 2}
    told = command(
        vm, "publish", "certificates=rsa",
        plugins=[{"name": "Pub.One", "settings": [settings]}, {"name": "Pub.Two", "broken": "empty-state"}],
        features=["MultipleExtensionsPerHandler"], profile={"onHold": True}, sequence=77,
        users=[{"name": "helper", "password": "pässword"}],
    )  # fmt: skip
    config, accounts = vm.part("extensionsconfig"), vm.part("remoteaccess")
    runtime = json.loads(config.findtext("PluginSettings/Plugin/RuntimeSettings") or "")
    handler = runtime["runtimeSettings"][0]["handlerSettings"]
    assert [plugin.get("state") for plugin in config.findall("Plugins/Plugin")] == ["enabled", ""]
    assert handler["publicSettings"] == {"a": "<&>"}
    assert [handler["protectedSettingsCertThumbprint"]] == told["thumbprints"]
    assert config.findtext("RequiredFeatures/RequiredFeature/Name") == "MultipleExtensionsPerHandler"
    assert (config.findtext("InVMArtifactsProfileBlob") or "").startswith("https://md-emulated.z1.blob.invalid/")
    metadata = config.find("InVMGoalStateMetaData")
    assert metadata is not None
    assert metadata.get("inSvdSeqNo") == "77"
    assert vm.opened(accounts.findtext("Users/User/Password") or "").decode("utf-16") == "pässword"
    assert vm.server.refusals == ()


def test_what_is_rotated_is_another(vm: Vm) -> None:
    first = command(vm, "publish", "certificates=rsa,ec")
    rotated = command(vm, "publish", "rotate", "same-container")
    resumed = command(vm, "publish", "rotate", "same-incarnation")
    assert (rotated["incarnation"], resumed["incarnation"]) == (3, 3)
    assert first["container_id"] == rotated["container_id"] != resumed["container_id"]
    sets = [
        set(map(str, told["thumbprints"]))
        for told in (first, rotated, resumed)
        if isinstance(told["thumbprints"], list)
    ]
    assert len(set.union(*sets)) == 6
    assert command(vm, "publish", "certificates=")["thumbprints"] == []
    assert vm.part("certificates").find("Data") is None


def test_a_cipher_that_the_host_lacks_is_not_to_be_had() -> None:
    with WireServer(options=Options(Offer(certificates=("rsa",)))) as server:
        server.set_envelopes("only=DES_EDE3_CBC")
        assert not server.tenancy.agrees("AES128_CBC")
        assert server.tenancy.agrees("DES_EDE3_CBC")


@pytest.mark.parametrize("broken", BREAKAGES[1:])
def test_a_broken_entry_differs_from_a_right_one(vm: Vm, broken: str) -> None:
    one = Settings(name="one", public={}, level=1)
    texts = []
    for kind in ("", broken):
        vm.server.publish(plan=Plan((Plugin("Pub.One", settings=(one,), broken=kind),), created=1.0))
        texts.append(ET.tostring(vm.part("extensionsconfig")).replace(b'"3"', b'"2"'))
    assert texts[0] != texts[1]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('publish {"plugin": []}', "not a plan"),
        ('publish {"plugins": [{"name": "A", "broken": "odd"}]}', "is none of"),
        ('publish {"plugins": [{"name": "A", "settings": [{"protected": {}}]}]}', "no certificate 0"),
        ("publish certificates=dsa", "is none of rsa"),
        ("publish loudly", "no such option"),
        ("envelopes padding=none", "says nothing about envelopes"),
    ],
)
def test_a_wrong_command_says_why_and_publishes_nothing(vm: Vm, text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        publishing.publish(vm.server, text)
    assert vm.server.goal_state.incarnation == 1
