# SPDX-License-Identifier: Apache-2.0
"""SSH host keys of every type made, and made known: to the log, to whoever looks at the console, to the platform."""

import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fabric.documents import read_role_properties
from tests.fabric.lab import Lab, PlacedFile
from tests.fabric.scene import CONFIG
from tests.fabric.vm import QUICK, Vm, booted
from tests.fabric.waiting import until

pytestmark = pytest.mark.root

CONSOLE = "/dev/console"
SMALLEST_PIPE_BYTES = 4096
# As ssh-keygen is from OpenSSH 10 on.
WITHOUT_DSA = PlacedFile(
    b"""#!/bin/sh
case "$*" in *"-t dsa"*) echo "unknown key type dsa" >&2; exit 255;; esac
exec /usr/bin/ssh-keygen "$@"
""",
    0o755,
)
READY_WITHIN_S = 20.0


def of_type(key_type: str) -> bytes:
    """The settings with that type of host key."""
    return QUICK.replace(b"Type=ed25519", f"Type={key_type}".encode())


def block(console: str, what: str) -> list[str]:
    """The lines between the marks, each of which stands there once."""
    (begin,), (end,) = (
        [number for number, line in enumerate(console.splitlines()) if line == f"-----{word} SSH HOST KEY {what}-----"]
        for word in ("BEGIN", "END")
    )
    return console.splitlines()[begin + 1 : end]


def listed(lab: Lab) -> list[str]:
    """Each host key, as ssh-keygen lists it."""
    names = lab.output("find", "/etc/ssh", "-maxdepth", "1", "-name", "ssh_host_*_key.pub").split()
    return [lab.output("ssh-keygen", "-lf", name).strip() for name in sorted(names)]


def thumbprints(vm: Vm) -> list[str]:
    """What the host was told, in the requests that it accepted."""
    taken = [r for r in vm.scene.records() if r["route"] == "roleproperties" and r["verdict"] == "accepted"]
    return [read_role_properties(str(r["body"]).encode()).thumbprint for r in taken]


def routes(vm: Vm) -> list[str]:
    """Of the host's accepted requests, what was reported."""
    told = [(r["route"], str(r["body"])) for r in vm.scene.records() if r["verdict"] == "accepted"]
    return ["Ready" if ">Ready<" in body else str(route) for route, body in told if route != "goalstate"]


def test_all_types_are_told_to_everybody_before_ready_and_the_console_is_left_then() -> None:
    with booted(config=CONFIG) as vm:
        vm.lab.output("touch", CONSOLE)
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready(READY_WITHIN_S)
        console = vm.lab.path(CONSOLE)
        shown = console.read_text()
        keys = listed(vm.lab)
        assert [key.rpartition(" ")[2] for key in keys] == ["(ECDSA)", "(ED25519)", "(RSA)"]
        assert block(shown, "FINGERPRINTS") == keys
        publics = [vm.lab.read(f"/etc/ssh/ssh_host_{name}_key.pub") for name in ("ecdsa", "ed25519", "rsa")]
        assert block(shown, "KEYS") == [public.decode().rstrip("\n") for public in publics]
        for key in keys:
            assert [line.partition("SSH host key: ")[2] for line in vm.scene.log().splitlines() if key in line] == [key]
        assert thumbprints(vm) == [keys[2].split()[1].replace(":", "")]
        assert routes(vm)[-2:] == ["roleproperties", "Ready"]
        assert " INFO provisioning account: done" in shown
        assert shown.splitlines()[-1].endswith(" INFO host accepted Ready")
        vm.settled()
        until("the first goal state of the process that goes on", lambda: vm.ps().overview.incarnation)
        # One that is published while the last is being fetched makes its documents go, which the host then refuses.
        until("the first in force", lambda: "incarnation_1, the WireServer's, is in force" in vm.scene.log(), 15)
        vm.scene.steer("publish")
        until("a line of the steady agent", lambda: "incarnation_2" in vm.scene.log(), timeout_s=15)
        kept = "ls /var/lib/waagent/history/*__2/Certificates.json"
        until("it is kept", lambda: vm.lab.run(["sh", "-c", kept]).returncode == 0, 15)
        assert console.read_text() == shown
        assert vm.told(vm.wanted.password or "") == []
        assert vm.mistakes() == []


@pytest.mark.parametrize("key_type", ["rsa", "dsa", "ecdsa"])
def test_one_key_of_the_configured_type(key_type: str) -> None:
    with booted(config=of_type(key_type)) as vm:
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready(READY_WITHIN_S)
        (key,) = listed(vm.lab)
        assert key.endswith(f"({key_type.upper()})")
        assert thumbprints(vm) == [key.split()[1].replace(":", "")]
        assert vm.mistakes() == []


def test_a_type_that_ssh_keygen_no_longer_makes_fails_by_the_options_name_and_changes_nothing() -> None:
    with booted(config=of_type("dsa"), image={"/usr/sbin/ssh-keygen": WITHOUT_DSA}) as vm:
        vm.boot(vm.wanted.medium())
        brief = vm.wait_until_decided()
        assert brief.startswith("NotReady ProvisioningFailed ")
        assert "no dsa key, which Provisioning.SshHostKeyPairType asks for, can be made here" in brief
        assert "unknown key type dsa" in brief
        told = " ".join(vm.ps_command().split())
        assert "unknown key type dsa; nothing was changed; the next start tries again" in told
        assert vm.applied() == []


def test_keys_that_the_image_keeps_are_told_as_well(tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    image: dict[str, bytes | PlacedFile] = {
        "/etc/ssh/ssh_host_ed25519_key": PlacedFile((tmp_path / "key").read_bytes(), 0o600),
        "/etc/ssh/ssh_host_ed25519_key.pub": (tmp_path / "key.pub").read_bytes(),
    }
    with booted(config=QUICK.replace(b"KeyPair=y", b"KeyPair=n"), image=image) as vm:
        vm.lab.output("touch", CONSOLE)
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        key = vm.lab.output("ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub").strip()
        assert block(vm.lab.path(CONSOLE).read_text(), "FINGERPRINTS") == [key]
        assert thumbprints(vm) == [key.split()[1].replace(":", "")]
        assert "ssh_host_dsa_key.pub holds no public key" in vm.scene.log()
        assert not [path for path in vm.applied() if "ssh_host" in path]


@contextmanager
def fifo(lab: Lab, *, has_reader: bool) -> Iterator[None]:
    """A console that is a FIFO: nobody has it open, or somebody has, never reads, and it is soon full."""
    lab.output("mkfifo", CONSOLE)
    reader = os.open(lab.path(CONSOLE), os.O_RDONLY | os.O_NONBLOCK) if has_reader else -1
    try:
        if has_reader:
            fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, SMALLEST_PIPE_BYTES)
        yield
    finally:
        if has_reader:
            os.close(reader)


@pytest.mark.parametrize("has_reader", [False, True])
def test_a_console_that_nobody_reads_loses_lines_and_nothing_else(has_reader: bool) -> None:
    faults = ("roleproperties:status=500*1",) if has_reader else ()
    with booted(faults=faults) as vm, fifo(vm.lab, has_reader=has_reader):
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        (key,) = listed(vm.lab)
        assert f"SSH host key: {key}" in vm.scene.log()
        # And a host in trouble was asked again, before Ready.
        assert thumbprints(vm) == [key.split()[1].replace(":", "")]
        assert routes(vm)[-2:] == ["roleproperties", "Ready"]
        assert vm.mistakes() == []


def test_no_line_goes_to_the_console_when_the_settings_say_so() -> None:
    with booted(config=QUICK + b"Logs.Console=n\n") as vm:
        vm.lab.output("touch", CONSOLE)
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        assert vm.lab.path(CONSOLE).read_bytes() == b""
