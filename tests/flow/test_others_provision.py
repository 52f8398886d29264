# SPDX-License-Identifier: Apache-2.0
"""Who provisions besides this agent: nobody it knows, or cloud-init; what it waits for, changes, reports and says."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fabric import cloud_init
from tests.fabric.vm import QUICK, Ahead, Vm, booted
from tests.fabric.waiting import until

pytestmark = pytest.mark.root

AGENT_LINE = b"Provisioning.Agent=waagent\n"
LIB, MARKER = "/var/lib/waagent", "/var/lib/waagent/provisioned"
# Keys that were made and are not in force count as its own.
AGENTS_OWN = (
    "/var/lib/agent-supervisor", "/var/lib/waagent", "/var/log/waagent.log", "/etc/ssh/.agent-supervisor-host-keys",
)  # fmt: skip
STARTING = "NotReady Provisioning Starting"
IN_THE_HOSTS_ORDER = "417C8A2F-6D5B-904E-9A3B-7C1D2E4F6A80"


def configured(agent: bytes, more: bytes = b"") -> bytes:
    """waagent.conf with this Provisioning.Agent."""
    return QUICK.replace(AGENT_LINE, b"Provisioning.Agent=" + agent + b"\n") + more


def changed_by_agent(vm: Vm) -> list[str]:
    """What was changed and is neither the agent's own nor the stand-in's."""
    paths = [change.path for change in vm.lab.changed()]
    return [path for path in paths if not path.startswith((*AGENTS_OWN, *cloud_init.ITS_OWN))]


def restarted(vm: Vm) -> None:
    assert vm.scene.stop_agent(vm.agent) == 0
    vm.boot(None)


def briefs(vm: Vm) -> list[str]:
    return [report.brief for report in vm.scene.reports()]


# --- nobody that this agent knows ---

LEFT_ALONE = {
    "switched off": (QUICK + b"Provisioning.Enabled=n\n", "Provisioning.Enabled is n"),
    "disabled": (configured(b"disabled"), "Provisioning.Agent is disabled"),
    "another word": (configured(b"ignition"), "Provisioning.Agent is ignition"),
}


def stand_aside(case: str) -> None:
    config, why = LEFT_ALONE[case]
    with booted(config=config) as vm:
        for _ in range(2):
            vm.boot(vm.wanted.medium())
            vm.scene.wait_until_ready()
            until("the reason", lambda: vm.story() == f"not done by this agent: {why}")
            until("no worker is left", lambda: not vm.scene.workers())
            assert vm.ps().overview.phase == "steady"
            assert why in vm.ps_command()
            assert vm.lab.read(MARKER).decode() == IN_THE_HOSTS_ORDER
            assert changed_by_agent(vm) == []
            assert vm.scene.stop_agent(vm.agent) == 0
        assert vm.scene.log().count(f"provisioning not done by this agent: {why}") == 2
        assert (briefs(vm), vm.refused()) == (["Ready"], [])


# --- cloud-init ---


def leave_later(vm: Vm) -> None:
    """The whole of it, each thing late, and told meanwhile."""
    cloud_init.enable(vm.lab)
    vm.boot(None)
    until("it waits", lambda: vm.story().startswith(f"waits for cloud-init: {cloud_init.DOCUMENT}"))
    until("no worker is left", lambda: not vm.scene.workers())
    assert (briefs(vm), vm.lab.run(["ls", MARKER]).returncode) == ([], 2)
    cloud_init.leave_document(vm.lab, cloud_init.document(vm.wanted))
    until("it waits", lambda: vm.story().startswith("waits for cloud-init: /etc/ssh/ssh_host_ed25519_key.pub"))
    assert (briefs(vm), vm.lab.run(["ls", MARKER]).returncode) == ([STARTING], 2)
    cloud_init.make_host_keys(vm.lab, "ed25519")
    vm.scene.wait_until_ready()
    shown = vm.lab.output("ssh-keygen", "-lf", "/etc/ssh/ssh_host_ed25519_key.pub").split()[1]
    assert f"cloud-init has made its SSH host keys: {shown}" in vm.scene.log()
    assert vm.lab.read(MARKER).decode() == IN_THE_HOSTS_ORDER
    until("its end", lambda: vm.story() == "done, by cloud-init")
    restarted(vm)
    until("the next start", lambda: vm.story() == "done on an earlier start")


def sleep_afterwards(vm: Vm) -> None:
    """Everything is there already, and the platform wants no guest agent."""
    cloud_init.enable(vm.lab)
    content = cloud_init.document(vm.wanted, provision_guest_agent="false")
    cloud_init.leave_document(vm.lab, content)
    cloud_init.make_host_keys(vm.lab, "ed25519")
    vm.boot(None)
    vm.scene.wait_until_ready()
    why = f"asleep, since {LIB}/disable_agent is there (ProvisionGuestAgent=false)"
    until("it sleeps", lambda: why in vm.scene.log())
    asked = len(vm.scene.records())
    restarted(vm)
    until("it sleeps again", lambda: vm.scene.log().count(why) == 2)
    assert why in vm.ps().overview.host
    assert why in vm.ps_command()
    assert len(vm.scene.records()) == asked


def fail_and_try_again(make_it_right: Callable[[Vm], None], *said: str) -> Callable[[Vm], None]:
    """A start that fails and says all that is in `said`; then, made right, one that doesn't."""

    def play(vm: Vm) -> None:
        vm.boot(None)
        problem = vm.wait_until_decided()
        assert problem.startswith("NotReady ProvisioningFailed ")
        assert [text for text in said if text not in problem] == []
        assert f"failed: {problem.removeprefix('NotReady ProvisioningFailed ')}" == f"{vm.story()}; nothing was changed"
        assert vm.lab.run(["ls", MARKER]).returncode == 2
        make_it_right(vm)
        restarted(vm)
        vm.scene.wait_until_ready()
        assert vm.lab.read(MARKER).decode() == IN_THE_HOSTS_ORDER

    return play


def leave_all(vm: Vm) -> None:
    vm.lab.output("rm", "-f", cloud_init.DOCUMENT)
    cloud_init.leave_document(vm.lab, cloud_init.document(vm.wanted))
    cloud_init.make_host_keys(vm.lab, "ed25519")


def fail_on(prepare: Callable[[Vm], None], *said: str) -> Callable[[Vm], None]:
    """As that, of what `prepare` left."""

    def play(vm: Vm) -> None:
        prepare(vm)
        fail_and_try_again(leave_all, *said)(vm)

    return play


def leave_malformed(vm: Vm) -> None:
    cloud_init.leave_document(vm.lab, cloud_init.document(vm.wanted).replace(b"HostName>", b"HorstName>"))


def leave_link(vm: Vm) -> None:
    vm.lab.output("mkdir", "-p", "-m", "0700", LIB)
    vm.lab.output("ln", "-s", "/etc/passwd", cloud_init.DOCUMENT)


def leave_to_somebody(vm: Vm) -> None:
    cloud_init.leave_document(vm.lab, cloud_init.document(vm.wanted))
    vm.lab.output("chmod", "0644", cloud_init.DOCUMENT)
    vm.lab.output("chown", "65534", cloud_init.DOCUMENT)


def leave_no_key(vm: Vm) -> None:
    cloud_init.leave_document(vm.lab, cloud_init.document(vm.wanted))
    vm.lab.write("/etc/ssh/ssh_host_ed25519_key.pub", b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAsPJpgT root@cut-off\n")


PATIENT, IMPATIENT = b"Provisioning.CloudInitTimeout=30\n", b"Provisioning.CloudInitTimeout=1\n"
WRONG_KEY = "/etc/ssh/ssh_host_ed25519_key.pub was waited 1 s for: it holds no SSH public key"
BY_CLOUD_INIT: dict[str, tuple[bytes, Callable[[Vm], None]]] = {
    "auto, late": (configured(b"auto", PATIENT), leave_later),
    "no guest agent": (configured(b"cloud-init", PATIENT), sleep_afterwards),
    "never": (
        configured(b"cloud-init", IMPATIENT),
        fail_and_try_again(leave_all, f"{cloud_init.DOCUMENT} was waited 1 s for: it is not there"),
    ),
    "malformed": (
        configured(b"cloud-init", PATIENT),
        fail_on(leave_malformed, cloud_init.DOCUMENT, "HostName", "is missing or empty"),
    ),
    "a link": (
        configured(b"cloud-init", PATIENT),
        fail_on(leave_link, cloud_init.DOCUMENT, "can't be opened: Too many levels"),
    ),
    "somebody's": (
        configured(b"cloud-init", PATIENT),
        fail_on(leave_to_somebody, cloud_init.DOCUMENT, "is not a regular file that root alone may write"),
    ),
    "half a key": (configured(b"cloud-init", IMPATIENT), fail_on(leave_no_key, WRONG_KEY)),
}


def await_cloud_init(case: str) -> None:
    config, play = BY_CLOUD_INIT[case]
    with booted(config=config) as vm:
        play(vm)
        assert changed_by_agent(vm) == []
        assert vm.readies() == 1
        assert vm.refused() == []


# --- all of them, some at a time ---

PLAYS = {**dict.fromkeys(LEFT_ALONE, stand_aside), **dict.fromkeys(BY_CLOUD_INIT, await_cloud_init)}


@pytest.fixture(scope="module")
def games() -> Iterator[Ahead[str]]:
    ahead = Ahead(PLAYS, lambda case: PLAYS[case](case))
    yield ahead
    ahead.close()


@pytest.mark.parametrize("case", PLAYS)
def test_whoever_provisions_is_left_to_it(games: Ahead[str], case: str) -> None:
    games.check(case)


# --- this agent ---


def test_two_that_provision_are_refused_and_one_is_not() -> None:
    with booted() as vm:
        cloud_init.enable(vm.lab)
        vm.boot(vm.wanted.medium())
        problem = vm.wait_until_decided()
        assert problem.startswith(
            "NotReady ProvisioningFailed Provisioning.Agent is waagent, but cloud-init is enabled"
        )
        assert cloud_init.LINK in problem
        assert changed_by_agent(vm) == []
        assert vm.lab.run(["ls", MARKER]).returncode == 2
        vm.lab.output("rm", cloud_init.LINK)
        restarted(vm)
        vm.scene.wait_until_ready()
        assert vm.mistakes() == []


def test_a_cloud_init_that_is_switched_on_meanwhile_is_seen_before_anything_is_changed() -> None:
    with booted(config=configured(b"auto").replace(b"MediaTimeout=1\n", b"MediaTimeout=20\n")) as vm:
        vm.boot(None)
        until("it looks for the medium", lambda: vm.story().startswith("looks for the medium"))
        cloud_init.enable(vm.lab)
        vm.scene.insert(vm.wanted.medium())
        problem = vm.wait_until_decided()
        assert problem.startswith("NotReady ProvisioningFailed Provisioning.Agent is auto, cloud-init is enabled by")
        assert "which it was not when this agent began" in problem
        assert changed_by_agent(vm) == []


def test_auto_without_cloud_init_is_this_agents_affair_and_strangers_among_its_workers_are_told() -> None:
    stranger = b"stranger:x:60801:60801::/nonexistent:/bin/sh\n"
    with booted(config=configured(b"auto"), image={"/etc/passwd": Path("/etc/passwd").read_bytes() + stranger}) as vm:
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        assert vm.mistakes() == []
        told = [line for line in vm.scene.log().splitlines() if "stranger (60801)" in line]
        assert len(told) == 1
        assert "ERROR" in told[0]
        assert "cloud-init is not enabled" in vm.scene.log()
