# SPDX-License-Identifier: Apache-2.0
"""Whoever else provisions is left alone: nothing of the VM is changed, the host hears Ready, log and `ps` say why."""

from collections.abc import Iterator

import pytest

from tests.fabric.vm import QUICK, Ahead, booted
from tests.fabric.waiting import until

pytestmark = pytest.mark.root

AGENT_LINE = b"Provisioning.Agent=waagent\n"
WANTED_BY = "/etc/systemd/system/cloud-init.target.wants"
UNIT = {f"{WANTED_BY}/cloud-init-local.service": b"[Unit]\n"}
CLOUD_INIT = "cloud-init provisions this VM"
# What waagent.conf says, what the image has, and the reason.
LEFT_ALONE = {
    "switched off": (b"Provisioning.Enabled=n\n" + AGENT_LINE, {}, "Provisioning.Enabled is n"),
    "disabled": (b"Provisioning.Agent=disabled\n", {}, "Provisioning.Agent is disabled"),
    "cloud-init": (b"Provisioning.Agent=cloud-init\n", {}, CLOUD_INIT),
    "auto, with cloud-init": (b"Provisioning.Agent=auto\n", UNIT, CLOUD_INIT),
}
ITS_OWN = ("/var/lib/agent-supervisor", "/var/lib/waagent", "/var/log/waagent.log")


def stand_aside(case: str) -> None:
    line, image, why = LEFT_ALONE[case]
    with booted(config=QUICK.replace(AGENT_LINE, line), image=image) as vm:
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        assert vm.story() == f"not done by this agent: {why}"
        assert f"provisioning not done by this agent: {why}" in vm.scene.log()
        assert why in vm.ps_command()
        until("no worker is left", lambda: not vm.scene.workers())
        assert vm.ps().overview.phase == "steady"
        # Not even that it is done: should this agent be asked to one day, it begins.
        changed = [change.path for change in vm.lab.changed()]
        assert [path for path in changed if not path.startswith(ITS_OWN)] == []
        assert [path for path in changed if path.startswith("/var/lib/waagent/")] == []
        assert [report.brief for report in vm.scene.reports()] == ["Ready"]
        assert vm.refused() == []


@pytest.fixture(scope="module")
def games() -> Iterator[Ahead[str]]:
    ahead = Ahead(LEFT_ALONE, stand_aside)
    yield ahead
    ahead.close()


@pytest.mark.parametrize("case", LEFT_ALONE)
def test_nothing_is_changed(games: Ahead[str], case: str) -> None:
    games.check(case)


def test_auto_without_cloud_init_is_this_agents_affair() -> None:
    with booted(config=QUICK.replace(AGENT_LINE, b"Provisioning.Agent=auto\n")) as vm:
        vm.lab.output("rm", "-rf", WANTED_BY)
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        assert vm.mistakes() == []
