# SPDX-License-Identifier: Apache-2.0
"""SSH keys that an OVF names by certificate, through the whole agent: waited for, placed with the right modes, and told
when they never come."""

import stat
import subprocess
from pathlib import Path

import pytest

from tests.fabric.media import make_ovf
from tests.fabric.scene import KEY
from tests.fabric.udf_writer import make_udf
from tests.fabric.vm import QUICK, Vm, booted
from tests.fabric.waiting import until

pytestmark = pytest.mark.root

HOME = "/home/azureuser"


def publish(vm: Vm, *kinds: str) -> list[str]:
    """The host gets certificates for its tenant; their thumbprints."""
    told = vm.scene.publish(f"certificates={','.join(kinds)}")["thumbprints"]
    assert isinstance(told, list)
    return told


def facts(vm: Vm, path: str) -> tuple[int, int]:
    status = vm.lab.path(path).stat()
    return stat.S_IMODE(status.st_mode), status.st_uid


def test_keys_by_certificate_are_placed_once_the_host_sends_them(tmp_path: Path) -> None:
    with booted(config=QUICK) as vm:
        rsa, ec, keyless = publish(vm, "rsa", "ec", "keyless")
        # At first the host does not have them: asked with either cipher, twice.
        vm.scene.steer("fault certificates:status=404*4")
        colons = ":".join(keyless[number : number + 2] for number in range(0, 40, 2)).lower()
        pairs = [(f"{HOME}/.ssh/id_rsa", rsa), ("$HOME/azureuser/keys/ec", ec.lower())]
        vm.boot(make_udf(make_ovf("azureuser", None, "vm1", [KEY], fingerprints=[colons, ec], key_pairs=pairs)))
        vm.scene.wait_until_ready(40)
        lines = vm.lab.read(f"{HOME}/.ssh/authorized_keys").decode().splitlines()
        assert (lines[0], len(lines)) == (KEY, 3)
        uid = vm.lab.path(HOME).stat().st_uid
        assert facts(vm, f"{HOME}/.ssh/authorized_keys") == (0o600, uid)
        for path in (f"{HOME}/.ssh/id_rsa", f"{HOME}/keys/ec"):
            private, public = vm.lab.path(path), vm.lab.path(f"{path}.pub")
            assert (facts(vm, path), facts(vm, f"{path}.pub")) == ((0o600, uid), (0o644, uid))
            # ssh itself: the halves belong together.
            copy = tmp_path / "key"
            copy.touch(0o600)
            copy.write_bytes(private.read_bytes())
            derived = subprocess.run(["ssh-keygen", "-y", "-f", str(copy)], check=True, capture_output=True, text=True)
            assert derived.stdout.split()[:2] == public.read_text().split()[:2]
        assert vm.lab.read(f"{HOME}/keys/ec.pub").decode().split()[1] == lines[2].split()[1]
        # No private key anywhere but there and with the agent's own certificates.
        prime = vm.lab.read(f"{HOME}/.ssh/id_rsa").decode().splitlines()[-5]
        vm.scene.stop_agent(vm.agent)
        kept = {f"{HOME}/.ssh/id_rsa", f"/var/lib/agent-supervisor/credentials/certificates/{rsa}.key"}
        assert set(vm.told(prime)) == kept
        assert vm.scene.log().count("transport key made") == 1
        assert vm.refused() == []


def test_a_certificate_that_never_comes_is_told_by_its_name() -> None:
    config = QUICK + b"Provisioning.CertificatesTimeout=2\n"
    with booted(config=config) as vm:
        _, keyless = publish(vm, "rsa", "keyless")
        absent = "0" * 40
        paths = [(f"{HOME}/.ssh/id_rsa", absent), (f"{HOME}/.ssh/other", keyless)]
        vm.boot(make_udf(make_ovf("azureuser", None, "vm1", [KEY], key_pairs=paths)))
        until(
            "what it waits for",
            lambda: f"waits for a certificate: the host has not sent certificate {absent}" in vm.story(),
        )
        report = vm.wait_until_decided(40)
        assert report.startswith("NotReady ProvisioningFailed")
        words = f"ovf-env.xml, Fingerprint: the host has not sent certificate {absent}, not within 2 s"
        assert words in report
        assert vm.applied() == []
        # Named by one that comes without its private key: that is told as well, by the next start.
        vm.scene.stop_agent(vm.agent)
        vm.boot(make_udf(make_ovf("azureuser", None, "vm1", [KEY], key_pairs=paths[1:])))
        words = f"the host has sent certificate {keyless} without its private key"
        until("the other reason", lambda: words in vm.scene.reports()[-1].brief, 40)
        assert vm.applied() == []
