# SPDX-License-Identifier: Apache-2.0
"""A VM made from another one's disk: it takes over no key and no "done" of that one, known by its id or not."""

import stat
from pathlib import Path

import pytest

from tests.fabric.lab import PlacedFile
from tests.fabric.scene import kill_process
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
        until("its keys", lambda: "host keys made: done" in first.scene.log())
        assert first.scene.stop_agent(first.agent) == 0
        image = captured(first, STATE, STAGING)
    assert {f"{STATE}/journal", f"{STAGING}/{HOST_KEY}"} <= image.keys()
    with booted(image=image, vm_id=ANOTHER_ID) as second:
        expect_provisioned_anew(second, image)


def test_the_same_vm_goes_on_with_the_keys_that_it_made() -> None:
    """What the test before this one asks for is asked for other ids alone."""
    with booted(host=False) as vm:
        vm.boot(vm.wanted.medium())
        until("its keys", lambda: "host keys made: done" in vm.scene.log())
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
        _, supervisor = first.residents()
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
        assert second.scene.log().count("host keys made: done") == 1
        assert second.lab.read(TRANSPORT_KEY) != image[TRANSPORT_KEY].content
        assert second.lab.read("/var/lib/waagent/CustomData") == second.wanted.custom_data
