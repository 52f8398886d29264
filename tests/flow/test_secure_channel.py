# SPDX-License-Identifier: Apache-2.0
"""The secure channel on real boots: everything signed, others refused, and no second key whatever happens.

The rule in front of the WireServer is off here, so that the host alone decides."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.audit.secret_watch import Pattern, secrets_in
from tests.fabric.host_signature import AUTHORIZATION, signature, written
from tests.fabric.scene import AGENT, kill_process
from tests.fabric.vm import QUICK, Vm, booted
from tests.fabric.waiting import until
from tests.fabric.wire_client import Draft

pytestmark = pytest.mark.root
CONFIG = QUICK + b"OS.EnableFirewall=n\nExtensions.GoalStatePeriod=1\n"
STORE = "/var/lib/agent-supervisor/credentials"
KEY_FILE = f"{STORE}/secure-channel.key"
YEAR_S = 365 * 86400
NOT_SIGNED = {"channelstatus", "channelkey"}
# Another process of root in the VM: sends what it is given on its input, and prints the first line of the answer.
OTHER = """
import socket, sys
with socket.create_connection(("168.63.129.16", 80), 5) as host:
    host.sendall(sys.stdin.buffer.read())
    print(host.recv(4096).split(b"\\r\\n")[0].decode())
"""


@contextmanager
def with_channel(*words: str, image: dict[str, bytes] | None = None, clock_s: float = 0.0) -> Iterator[Vm]:
    """A VM whose host has the channel as `words` say."""
    with booted(config=CONFIG, image=image) as vm:
        vm.scene.steer(f"channel {' '.join(words)}")
        vm.scene.steer(f"clock {clock_s}")
        yield vm


def provision(vm: Vm) -> None:
    """A first boot up to the fresh supervisor that has asked for its goal state."""
    vm.boot(vm.wanted.medium())
    vm.scene.wait_until_ready()
    vm.settled()
    until("its goal state", lambda: vm.ps().overview.incarnation)
    assert (vm.mistakes(), vm.readies()) == ([], 1)


def shown(vm: Vm) -> str:
    """What `ps` says of the channel."""
    snapshot = vm.ps_or_none()
    return snapshot.overview.secure_channel if snapshot is not None else ""


def asked(vm: Vm, route: str) -> list[dict[str, object]]:
    return [record for record in vm.scene.records() if record["route"] == route]


def headers(record: dict[str, object]) -> dict[str, str]:
    return {name.lower(): value for name, value in record["headers"]}  # type: ignore[attr-defined]


def unsigned(vm: Vm) -> list[str]:
    """The routes of the requests that had no signature."""
    return [str(record["route"]) for record in vm.scene.records() if AUTHORIZATION not in headers(record)]


def host_knows(vm: Vm) -> str:
    """The GUID of the latched key."""
    channels = vm.scene.steer("state")["channels"]
    return str(channels["vm"]["latched"])  # type: ignore[index]


def audited(vm: Vm) -> list[tuple[str, str]]:
    """What the audit log has of the channel."""
    lines = vm.lab.read("/var/lib/agent-supervisor/audit.log").decode().splitlines()
    entries = [json.loads(line) for line in lines]
    return [(e["request"], e.get("decision", "")) for e in entries if e.get("event") == "secure-channel"]


def as_another(vm: Vm, request: bytes) -> str:
    """The host's word to another process of root."""
    done = vm.lab.run([sys.executable, "-I", "-c", OTHER], given=request)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def goal_state_request(vm: Vm, guid: str = "", key: str = "00" * 32) -> bytes:
    """Asked for as our agent does; with a `guid` signed with `key`."""
    head = [
        ("Host", "168.63.129.16"),
        ("x-ms-agent-name", "WALinuxAgent"),
        ("x-ms-version", "2012-11-30"),
        ("x-ms-azure-host-date", written(float(str(vm.scene.records()[-1]["time"])))),
        ("x-ms-azure-host-claims", '{ "isRoot": "true"}'),
    ]
    target = "/machine/?comp=goalstate"
    if guid:
        told = signature(key, "GET", target, tuple(head), b"")
        head.append((AUTHORIZATION, f"Azure-HMAC-SHA256 {guid} {told}"))
    return Draft("GET", target, tuple(head)).encode()


def test_a_whole_provisioning_is_signed_and_others_are_refused() -> None:
    with with_channel("enforce") as vm:
        provision(vm)
        guid = host_knows(vm)
        assert f"requests are signed with key {guid} (version 2.0; WireServer enforce, IMDS audit)" in shown(vm)
        assert "secure channel: on, requests are signed" in vm.ps_command()
        assert (set(unsigned(vm)), vm.refused()) == (NOT_SIGNED, [])
        assert audited(vm) == [
            ("key written", "done"),
            ("attest", "intended"),
            ("attest", "done"),
            ("ours", ""),
            ("ours", ""),  # the process that goes on
        ]
        assert vm.scene.log().index("secure channel: on") < vm.scene.log().index("accepted NotReady")
        # Root in the same VM, who sees all that goes over the wire but not the key.
        assert as_another(vm, goal_state_request(vm)) == "HTTP/1.1 403 Forbidden"
        assert as_another(vm, goal_state_request(vm, guid)) == "HTTP/1.1 403 Forbidden"
        rules = [record["rule"] for record in vm.scene.records() if record["verdict"] == "refused"]
        assert rules == ["signature-given", "signature-right"]
        # The control: with the key it passes.
        key = json.loads(vm.lab.read(KEY_FILE))["key"]
        assert as_another(vm, goal_state_request(vm, guid, key)) == "HTTP/1.1 200 OK"
        _next_goal_state(vm)
        assert asked(vm, "goalstate")[-1]["verdict"] == "accepted"
        _check_where_the_key_is(vm, key)


def _check_where_the_key_is(vm: Vm, key: str) -> None:
    """In the store, and in the supervisor, where nobody else has it."""
    spawner, supervisor = vm.residents()
    pattern = {"key": [Pattern(key.encode()), Pattern(bytes.fromhex(key))]}
    assert vm.told(key) == [KEY_FILE]
    assert (secrets_in(spawner, pattern), set(secrets_in(supervisor, pattern))) == ({}, {"key"})
    facts = vm.lab.output("stat", "-c", "%a %U", KEY_FILE, f"{STORE}/secure-channel.guid", STORE).splitlines()
    assert facts == ["600 root", "600 root", "700 root"]


def test_switched_on_and_off_and_on_while_it_runs() -> None:
    """A refused request has it looked at, so that nobody waits for the next look here."""
    with with_channel("version=1.0", "off") as vm:
        provision(vm)
        assert shown(vm) == "off (version 1.0)"
        _switch(vm, "enforce", "on, requests are signed")
        _switch(vm, "off", "off (version 1.0)")
        assert (unsigned(vm)[-1], vm.refused()) == ("goalstate", [])
        # This time the host itself refuses what is not signed.
        vm.scene.steer("channel enforce")
        until("signed again", lambda: shown(vm).startswith("on, requests are signed"), 20)
        _next_goal_state(vm)
        assert asked(vm, "goalstate")[-1]["verdict"] == "accepted"
        assert (len(asked(vm, "channelkey")), len(asked(vm, "attestation"))) == (1, 1)


def _switch(vm: Vm, word: str, expected: str) -> None:
    vm.scene.steer(f"channel {word}")
    vm.scene.steer("fault goalstate:status=403*1")
    until(expected, lambda: shown(vm).startswith(expected), 20)
    _next_goal_state(vm)


def _next_goal_state(vm: Vm) -> None:
    before = len(asked(vm, "goalstate"))
    until("the next goal state", lambda: len(asked(vm, "goalstate")) > before + 1)


def test_killed_between_the_key_on_disk_and_its_attestation() -> None:
    with with_channel("enforce") as vm:
        vm.scene.steer("fault attestation:silence")
        vm.boot(vm.wanted.medium())
        until("the attestation under way", lambda: asked(vm, "attestation"))
        kept = vm.lab.read(KEY_FILE)
        assert host_knows(vm) == ""
        vm.scene.steer("clear")
        assert kill_process(vm.residents()[1])
        vm.scene.wait_until_ready()
        vm.settled()
        assert vm.lab.read(KEY_FILE) == kept
        assert host_knows(vm) == json.loads(kept)["guid"]
        assert len(asked(vm, "channelkey")) == 1
        assert (vm.mistakes(), vm.refused(), vm.readies()) == ([], [], 1)


def test_anothers_key_is_told_and_left_alone() -> None:
    with with_channel("audit", "latch-other") as vm:
        provision(vm)
        guid = host_knows(vm)
        assert f"on, with another's key {guid}: nothing is signed" in shown(vm)
        assert f"ERROR host secure channel: on, with another's key {guid}" in vm.scene.log()
        status = vm.lab.run([str(AGENT), "status", "--long"])
        assert (status.returncode, "another's key" in status.stdout) == (2, True)
        assert set(audited(vm)) == {("others", "")}
        assert (asked(vm, "channelkey"), vm.refused()) == ([], [])


def test_a_year_off_and_then_the_key_is_lost() -> None:
    with with_channel("enforce", clock_s=YEAR_S) as vm:
        provision(vm)
        assert (set(unsigned(vm)), vm.refused()) == (NOT_SIGNED, [])
        assert "this machine's clock is 365 d behind the host's" in shown(vm)
        guid = host_knows(vm)
        vm.scene.stop_agent(vm.agent)
        vm.lab.output("rm", KEY_FILE)
        vm.scene.steer("channel audit")
        vm.boot(None)
        until("it is said", lambda: f"our key {guid} is lost: no key file in {STORE} has it" in shown(vm))
        until("a goal state all the same", lambda: vm.ps().overview.incarnation)
        assert (len(asked(vm, "channelkey")), vm.refused()) == (1, [])


@pytest.mark.parametrize("sign", ["its program", "its listener"])
def test_the_guest_proxy_agent_is_left_the_channel(sign: str) -> None:
    image = {"/usr/sbin/azure-proxy-agent": b""} if sign == "its program" else {}
    with with_channel("audit", image=image) as vm:
        if sign == "its listener":
            program = "import socket; s = socket.create_server(('127.0.0.1', 3080)); print(flush=True); s.accept()"
            listener = vm.lab.popen([sys.executable, "-I", "-c", program], stdout=subprocess.PIPE)
            assert listener.stdout is not None
            with listener.stdout as said:
                assert said.readline() == b"\n"
        provision(vm)
        assert shown(vm).startswith("on, left to the Guest Proxy Agent (")
        assert (asked(vm, "channelkey"), host_knows(vm), vm.refused()) == ([], "", [])
