# SPDX-License-Identifier: Apache-2.0
"""Host plugin and storage by a real boot: each in the other's place, by a proxy; nobody is told a URL's query."""

from typing import Any

import pytest

from tests.fabric.scene import AGENT, AGENT_LOG
from tests.fabric.surroundings import ACCOUNT, PROXY, PROXY_PORT, Surroundings
from tests.fabric.vm import QUICK, Vm, booted
from tests.fabric.waiting import until

pytestmark = pytest.mark.root

OFTEN = QUICK + b"Extensions.GoalStatePeriod=1\n"
ENVIRONMENT = {"https_proxy": f"http://{PROXY}:{PROXY_PORT}", "no_proxy": "other.storage.test,10.0.0.0/8"}


def test_each_channel_takes_the_others_place() -> None:
    around = Surroundings.make()
    with booted(config=OFTEN, image=around.files(), host=False) as vm:
        around.start_host(vm.scene)
        boot_with_a_proxy(vm)
        until("a status", lambda: (seen := vm.ps_or_none()) and seen.overview.contact.status_accepted, 20)
        the_status_goes_by_storage_and_comes_back(vm)
        a_profile_that_storage_spoils_comes_by_the_host(vm)
        a_profile_that_the_host_refuses_comes_from_storage(vm)
        assert holders_of_a_signature(vm) == ""


def boot_with_a_proxy(vm: Vm) -> None:
    """As a unit does whose environment names one."""
    vm.scene.insert(vm.wanted.medium())
    with vm.lab.path(AGENT_LOG).open("ab") as log:
        command = [str(AGENT), "run"]
        agent = vm.lab.popen(command, cgroup=vm.scene.agent_cgroup, env=ENVIRONMENT, stdout=log, stderr=log)
    vm.agents.append(agent)


def channel(vm: Vm) -> str:
    seen = vm.ps_or_none()
    return seen.overview.contact.channel if seen is not None else ""


def trouble(vm: Vm) -> str:
    seen = vm.ps_or_none()
    return seen.overview.contact.status_trouble if seen is not None else ""


def last(vm: Vm) -> Any:
    return vm.scene.steer("last")


def the_status_goes_by_storage_and_comes_back(vm: Vm) -> None:
    """By the proxy, which is told a name and a port, and by a worker that is gone afterwards."""
    before = len(last(vm)["connected"])
    vm.scene.steer("fault status:status=500")
    vm.scene.publish("same-container", plugins=[{"name": "Vendor.One", "version": "1.0.0"}])
    until("the other channel", lambda: channel(vm) == "storage", 15.0)
    assert set(last(vm)["connected"][before:]) == {f"{ACCOUNT}:443"}
    handlers = last(vm)["status"]["aggregateStatus"]["handlerAggregateStatus"]
    assert [handler["handlerName"] for handler in handlers] == ["Vendor.One"]
    vm.scene.steer("fault putblob:status=403")
    vm.scene.publish("same-container")
    until("both channels' trouble", lambda: "403" in trouble(vm), 15.0)
    assert f"PUT https://{ACCOUNT}/" in trouble(vm)
    assert "?" not in trouble(vm)
    vm.scene.steer("clear")
    vm.scene.publish("same-container")
    until("the host's channel", lambda: channel(vm) == "host plugin", 15.0)


def publish_profile(vm: Vm, *, held: bool) -> None:
    vm.scene.publish("same-container", profile={"onHold": held})


def asked(vm: Vm, route: str) -> int:
    return sum(record["route"] == route for record in vm.scene.records())


def a_profile_that_storage_spoils_comes_by_the_host(vm: Vm) -> None:
    by_host = asked(vm, "artifact")
    vm.scene.steer("fault blob:truncate")
    publish_profile(vm, held=True)
    until("the host's help", lambda: asked(vm, "artifact") > by_host, 15.0)
    vm.scene.steer("clear")


def a_profile_that_the_host_refuses_comes_from_storage(vm: Vm) -> None:
    """Another artifact: it is sought in storage first, whatever was the matter before."""
    by_host, by_storage = asked(vm, "artifact"), asked(vm, "blob")
    vm.scene.steer("fault artifact:status=500")
    publish_profile(vm, held=False)
    until("storage's help", lambda: asked(vm, "blob") > by_storage, 15.0)
    assert asked(vm, "artifact") == by_host
    vm.scene.steer("clear")


def holders_of_a_signature(vm: Vm) -> str:
    """The files that hold one, of the log, the audit log, and everything else of the agent's; a line each."""
    asked_for = [str(record["target"]) for record in vm.scene.records()]
    signatures = {target.partition("sig=")[2].partition("&")[0] for target in asked_for} - {""}
    assert signatures
    vm.scene.stop_agent(vm.agent)
    wanted = [word for signature in signatures for word in ("-e", signature)]
    found = vm.lab.run(
        ["grep", "-rlF", *wanted, "/var/log", "/var/lib/waagent", "/var/lib/agent-supervisor", AGENT_LOG]
    )
    return found.stdout
