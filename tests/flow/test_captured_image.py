# SPDX-License-Identifier: Apache-2.0
"""A VM made from another one's disk: it takes over no key and no "done" of that one, known by its id or not."""

import stat
from pathlib import Path

import pytest

from tests.fabric.demo_kills import Unit
from tests.fabric.lab import VM_ID, PlacedFile
from tests.fabric.media import make_medium
from tests.fabric.scene import kill_process, spawner_pid, supervisor_pid
from tests.fabric.vm import Vm, booted
from tests.fabric.waiting import until

pytestmark = pytest.mark.root

STATE, STAGING = "/var/lib/agent-supervisor", "/etc/ssh/.agent-supervisor-host-keys"
TRANSPORT_KEY = f"{STATE}/credentials/transport.key"
HOST_KEY = "ssh_host_ed25519_key.pub"
MARKER = "/var/lib/waagent/provisioned"
ANOTHER_ID = "7D0E2B18-93C4-4A5F-8E61-0B9F3D2C5A74"
NO_ID = "Not Settable"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
EARLIER_BOOT = b"3b1f0c5e-6a27-4d88-9c10-e2f4a6b8c0d2\n"
DONE_EARLIER = "done on an earlier start"


def captured(vm: Vm, *tops: str) -> dict[str, PlacedFile]:
    """What the VM has below these folders now."""
    files = [change for change in vm.lab.changed() if stat.S_ISREG(change.mode) and change.path.startswith(tops)]
    return {one.path: PlacedFile(vm.lab.path(one.path).read_bytes(), one.permissions) for one in files}


def wait_until_done(vm: Vm) -> None:
    """Ready, and the transport key made, which comes last."""
    vm.scene.wait_until_ready()
    until("its transport key", lambda: "transport key made" in vm.scene.log())


def expect_provisioned_anew(vm: Vm, image: dict[str, PlacedFile]) -> None:
    """A first boot as any other, whatever `image` brought along."""
    vm.boot(vm.wanted.medium())
    wait_until_done(vm)
    assert vm.mistakes() == []
    assert vm.lab.read(TRANSPORT_KEY) not in {file.content for file in image.values()}
    keys = {Path(path).name: vm.lab.read(f"/etc/ssh/{Path(path).name}") for path in image if path.endswith(HOST_KEY)}
    assert not [name for name, key in keys.items() if key in {file.content for file in image.values()}]
    assert vm.lab.run(["ls", STAGING]).returncode != 0


def test_keys_that_an_unfinished_vm_made_are_not_another_ones() -> None:
    with booted(host=False) as first:
        first.boot(first.wanted.medium())
        until("its keys", lambda: "SSH host keys: done" in first.scene.log())
        assert first.scene.stop_agent(first.agent) == 0
        image = captured(first, STATE, STAGING)
    assert {f"{STATE}/journal", f"{STAGING}/{HOST_KEY}"} <= image.keys()
    with booted(image=image, vm_id=ANOTHER_ID) as second:
        expect_provisioned_anew(second, image)


def test_the_same_vm_goes_on_with_the_keys_that_it_made() -> None:
    """What the test before this one asks for is asked for other ids alone."""
    with booted(host=False) as vm:
        vm.boot(vm.wanted.medium())
        until("its keys", lambda: "SSH host keys: done" in vm.scene.log())
        assert vm.scene.stop_agent(vm.agent) == 0
        made = vm.lab.read(f"{STAGING}/{HOST_KEY}")
        vm.scene.start_host()
        vm.boot(None)
        vm.scene.wait_until_ready()
        assert vm.mistakes() == []
        assert vm.lab.read(f"/etc/ssh/{HOST_KEY}") == made


def test_a_finished_vm_does_not_make_another_one_finished() -> None:
    with booted() as first:
        first.boot(first.wanted.medium())
        wait_until_done(first)
        assert first.scene.stop_agent(first.agent) == 0
        image = captured(first, STATE, "/etc/ssh/ssh_host_")
        marker = captured(first, MARKER)
    assert TRANSPORT_KEY in image
    with booted(image=image, vm_id=ANOTHER_ID) as second:
        expect_provisioned_anew(second, image)
    # With the marker the disk counts as provisioned, as ever; the transport key is this VM's own all the same.
    with booted(image=image | marker, vm_id=ANOTHER_ID) as third:
        third.boot(None)
        wait_until_done(third)
        assert third.lab.read(TRANSPORT_KEY) != image[TRANSPORT_KEY].content
        assert third.lab.read(MARKER) != marker[MARKER].content
        assert third.applied() == []


def test_a_vm_without_an_id_is_provisioned_once_and_its_image_again() -> None:
    with booted(vm_id=NO_ID) as first:
        first.lab.write("/run/boot_id", EARLIER_BOOT)
        first.lab.output("mount", "-n", "--bind", "/run/boot_id", BOOT_ID)
        first.boot(first.wanted.medium())
        wait_until_done(first)
        image = captured(first, STATE)
        assert first.lab.read(MARKER) == b"unknown"
        _, supervisor = first.settled()
        assert kill_process(supervisor)
        until("the next one", lambda: first.story() == DONE_EARLIER)
        assert first.scene.stop_agent(first.agent) == 0
        first.lab.output("umount", "-n", BOOT_ID)
        first.boot(None)
        until("the next boot", lambda: first.story() == DONE_EARLIER)
        assert (first.readies(), first.refused()) == (1, [])
    assert f"{STATE}/journal" in image
    with booted(image=image, vm_id=NO_ID) as second:
        second.boot(second.wanted.medium())
        wait_until_done(second)
        assert second.scene.log().count("SSH host keys: done") == 1
        assert second.lab.read(TRANSPORT_KEY) != image[TRANSPORT_KEY].content
        assert second.lab.read("/var/lib/waagent/CustomData") == second.wanted.custom_data


# --- a provisioned disk in a VM with another id (provisioning.md 10.3) ---

HERE = "417C8A2F-6D5B-904E-9A3B-7C1D2E4F6A80"
LIB, UNITS = "/var/lib/waagent", "/usr/lib/systemd/system"
HANDLER = f"{LIB}/Publisher.Name.Handler-1.2.3"
# What is only in the lab while it is up: the lease of networkd, in a folder of its account, which root may not write.
LEASES, OWNER = "/run/systemd/netif/leases", "998"
OF_LIB = """HostingEnvironmentConfig.xml Incarnation partition Protocol SharedConfig.xml WireServerEndpoint
published_hostname fast_track.json initial_goal_state waagent_rsm_update waagent_initial_update Extensions.1.xml
ExtensionsConfig.12.xml GoalState.3.xml waagent-network-setup.py"""
FORMERS = {f"{LIB}/{name}" for name in OF_LIB.split()} | {
    f"{HANDLER}/status/0.status",
    f"{HANDLER}/config/0.settings",
    f"{HANDLER}/config/HandlerStatus",
    f"{HANDLER}/mrseq",
    "/var/lib/dhcp/dhclient.eth0.leases",
    "/var/lib/dhclient/dhclient.leases",
    "/var/lib/NetworkManager/dhclient-1-eth0.lease",
    f"{UNITS}/walinuxagent-network-setup.service",
    f"{UNITS}/waagent.service.d/10-Slice.conf",
    f"{UNITS}/walinuxagent.service.d/13-MemoryAccounting.conf",
}
EVERYBODYS = {
    f"{LIB}/ovf-env.xml",
    f"{LIB}/CustomData",
    f"{LIB}/0123456789ABCDEF0123456789ABCDEF01234567.crt",
    f"{LIB}/waagent_status.json",
    f"{HANDLER}/HandlerManifest.json",
    f"{HANDLER}/status/readme.txt",
    "/var/lib/NetworkManager/NetworkManager.state",
    f"{UNITS}/waagent.service.d/image.conf",
    "/etc/sudoers.d/waagent",
}


def disk(marker: str) -> dict[str, bytes]:
    """A disk that some agent provisioned, with that marker."""
    return {MARKER: marker.encode(), **{path: path.encode() for path in (*FORMERS, *EVERYBODYS)}}


def left_of(vm: Vm, paths: set[str]) -> set[str]:
    return {path for path in paths if vm.lab.path(path).exists()}


def lease_a_network(vm: Vm) -> None:
    vm.lab.output("install", "-d", "-m", "0755", "-o", OWNER, "-g", OWNER, LEASES)
    vm.lab.output("sh", "-c", f"echo x >{LEASES}/2; chown {OWNER}:{OWNER} {LEASES}/2; ln -s {LIB} {LEASES}/link")


def expect_moved_in(vm: Vm) -> None:
    """The other VM's traces are gone, everything else is there, and the host knows that the VM is Ready."""
    until("its end", lambda: vm.story() == "done")
    assert left_of(vm, FORMERS) == set()
    assert left_of(vm, EVERYBODYS) == EVERYBODYS
    assert vm.lab.output("ls", "-A", LEASES) == ""
    assert vm.lab.read(MARKER).decode() == HERE
    # The folder that outsiders know is closed to others at every start, and what the new VM's goal state writes there
    # may have come already.
    agents_own = (STATE, MARKER, "/var/log/waagent.log", f"{LIB}/history", f"{LIB}/waagent_status.json")
    changed = [each for each in vm.lab.changed() if not each.path.startswith(agents_own) and each.path != LIB]
    assert {change.path for change in changed if change.kind == "deleted"} == FORMERS
    assert [change.path for change in changed if change.kind != "deleted"] == []
    assert [report.brief for report in vm.scene.reports()] == ["Ready"]
    assert vm.refused() == []


def test_what_another_vm_left_goes_and_a_second_start_changes_nothing() -> None:
    with booted(image=disk(ANOTHER_ID)) as vm:
        lease_a_network(vm)
        vm.boot(None)
        vm.scene.wait_until_ready()
        expect_moved_in(vm)
        assert f"this disk was in VM '{ANOTHER_ID}', and is in {HERE} now" in vm.scene.log()
        assert vm.scene.stop_agent(vm.agent) == 0
        vm.lab.output("touch", f"{LIB}/Incarnation", f"{LEASES}/3")
        vm.boot(None)
        until("the next start", lambda: vm.story() == DONE_EARLIER)
        assert left_of(vm, {f"{LIB}/Incarnation", f"{LEASES}/3"}) == {f"{LIB}/Incarnation", f"{LEASES}/3"}
        assert vm.readies() == 1


@pytest.mark.parametrize("who", ["supervisor", "spawner", "former-vm"])
def test_a_clean_up_that_is_killed_is_finished(who: str) -> None:
    with booted(image=disk(ANOTHER_ID)) as vm:
        lease_a_network(vm)
        unit = Unit(vm.scene)
        vm.agents.append(unit.agent)
        resident = {"supervisor": supervisor_pid, "spawner": spawner_pid}.get(who)
        pid = resident(unit.agent) if resident is not None else 0

        def hit() -> bool:
            at_work = [pids[0] for name, pids in vm.scene.workers().items() if name.startswith("former-vm.") and pids]
            return any(kill_process(pid or each) for each in at_work)

        until("it is at work", hit, every_s=0.0005)
        until("Ready", lambda: unit.keep_running() and vm.scene.is_settled(), 20.0)
        vm.agents.append(unit.agent)
        expect_moved_in(vm)
        unit.stop()
        assert vm.left_over() == []


def test_an_unfinished_clean_up_is_told_and_tried_again() -> None:
    with booted(image=disk(ANOTHER_ID)) as vm:
        lease_a_network(vm)
        vm.lab.output("mkdir", "-p", "/var/lib/dhcp" + 20 * "/d")
        vm.boot(None)
        problem = vm.wait_until_decided()
        assert problem.startswith("NotReady ProvisioningFailed traces of the former VM")
        assert "more than 16 folders deep" in problem
        assert vm.lab.read(MARKER).decode() == ANOTHER_ID
        vm.lab.output("rm", "-r", "/var/lib/dhcp/d")
        assert vm.scene.stop_agent(vm.agent) == 0
        vm.boot(None)
        vm.scene.wait_until_ready()
        until("its end", lambda: vm.story() == "done")
        assert left_of(vm, FORMERS) == set()


def test_an_id_in_the_other_byte_order_is_the_same_vms() -> None:
    with booted(image=disk(VM_ID.lower())) as vm:
        vm.boot(None)
        until("it goes on", lambda: vm.story() == DONE_EARLIER)
        until("its transport key", lambda: "transport key made" in vm.scene.log())
        assert left_of(vm, FORMERS) == FORMERS
        assert (vm.lab.read(MARKER).decode(), vm.readies(), vm.refused()) == (HERE, 0, [])


def test_a_marker_without_an_id_gets_one_and_nothing_else_changes() -> None:
    with booted(image=disk("")) as vm:
        vm.boot(None)
        vm.scene.wait_until_ready()
        wait_until_done(vm)
        assert left_of(vm, FORMERS) == FORMERS
        assert (vm.lab.read(MARKER).decode(), vm.readies(), vm.refused()) == (HERE, 1, [])


def test_a_marker_that_somebody_removed_means_anew_and_no_guest_agent_means_sleep() -> None:
    with booted() as vm:
        ovf = vm.wanted.ovf().replace(b"<wa:ProvisionGuestAgent>true", b"<wa:ProvisionGuestAgent>false")
        vm.boot(make_medium(ovf, "udf"))
        vm.scene.wait_until_ready()
        until("it sleeps", lambda: "asleep, since" in vm.scene.log())
        assert f"{LIB}/disable_agent is there (ProvisionGuestAgent=false)" in vm.ps().overview.host
        assert vm.mistakes() == []
        first = vm.lab.read(f"/etc/ssh/{HOST_KEY}")
        assert vm.scene.stop_agent(vm.agent) == 0
        vm.lab.output("rm", MARKER, f"{LIB}/disable_agent")
        vm.boot(vm.wanted.medium())
        until("Ready once more", lambda: vm.readies() == 2, 20.0)
        until("its end", lambda: vm.story() == "done")
        assert (vm.lab.read(MARKER).decode(), vm.refused()) == (HERE, [])
        assert vm.lab.read(f"/etc/ssh/{HOST_KEY}") != first
        assert vm.scene.log().count("asleep, since") == 1
