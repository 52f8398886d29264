# SPDX-License-Identifier: Apache-2.0
"""Goal states by a real boot: published, broken, refused, rotated, by FastTrack, withdrawn, killed in the middle."""

import json
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from supervisor.journal import replay
from tests.fabric.scene import AGENT, kill_process, supervisor_pid
from tests.fabric.surroundings import Surroundings
from tests.fabric.vm import QUICK, Vm, booted
from tests.fabric.waiting import until

pytestmark = pytest.mark.root

OFTEN = QUICK + b"Extensions.GoalStatePeriod=1\n"
LIB = "/var/lib/waagent"
HISTORY = f"{LIB}/history"
JOURNAL, AUDIT_LOG = "/var/lib/agent-supervisor/journal", "/var/lib/agent-supervisor/audit.log"
SEALED = "TUlJQnNlYWxlZEZvclRoZVRlbmFudA"
SECRET = "U2VjcmV0T2ZUaGVUZXN0"
TELLING = [{"sequence": 3, "public": {"told": SECRET}}]


@pytest.fixture(scope="module")
def vm() -> Iterator[Vm]:
    """A provisioned VM with all of Azure around it; each test publishes what it needs on top of what was before."""
    around = Surroundings.make()
    with booted(config=OFTEN, image=around.files(), host=False) as made:
        around.start_host(made.scene, more=["--certificates=rsa"])
        made.boot(made.wanted.medium())
        until("a status", lambda: (seen := made.ps_or_none()) and seen.overview.contact.status_accepted, 20)
        yield made


def in_force(vm: Vm) -> str:
    seen = vm.ps_or_none()
    return seen.overview.contact.goal_state if seen is not None else ""


def until_in_force(vm: Vm, name: str, timeout_s: float = 15.0) -> None:
    until(f"{name} in force", lambda: in_force(vm) == name, timeout_s)


def publish(vm: Vm, *words: str, **plan: object) -> str:
    """Have the host publish; the id of what it has."""
    return f"incarnation_{vm.scene.publish(*words, **plan)['incarnation']}"


def publish_fast(vm: Vm, **plan: object) -> str:
    return f"etag_{vm.scene.steer(f'fast {json.dumps(plan)}')['etag']}"


def shown(vm: Vm, *options: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(vm.lab.output(str(AGENT), "goal-state", "--json", *options))
    return told


def status(vm: Vm) -> Mapping[str, Any]:
    """The last that the host took."""
    told: Mapping[str, Any] = vm.scene.steer("last")["status"]["aggregateStatus"]  # type: ignore[index]
    return told


def handlers(vm: Vm) -> dict[str, int]:
    """What the host knows of each handler: its code."""
    return {each["handlerName"]: each["code"] for each in status(vm)["handlerAggregateStatus"]}


def outcome(vm: Vm) -> tuple[object, str, int]:
    """What the host knows of the goal state: its sequence number, a text by the WireServer, and its code."""
    told = status(vm)["vmArtifactsAggregateStatus"]["goalStateAggregateStatus"]
    return told["inSvdSeqNo"], told["status"], told["code"]


def ended(vm: Vm) -> Counter[str]:
    """How often each goal state came to its end, by the audit log."""
    entries = map(json.loads, vm.lab.read(AUDIT_LOG).decode().splitlines())
    done = [each["request"] for each in entries if each["event"] == "goal-state" and each["decision"] != "intended"]
    return Counter(done)


def told_features(vm: Vm) -> list[dict[str, str]]:
    """What the host knows of the agent."""
    told: list[dict[str, str]] = vm.scene.steer("last")["status"]["supportedFeatures"]  # type: ignore[index]
    return told


def mode(vm: Vm, path: str) -> int:
    return stat.S_IMODE(vm.lab.path(path).stat().st_mode)


def test_a_goal_state_is_followed_kept_and_told(vm: Vm) -> None:
    plugins = [
        {"name": "P.Good", "settings": TELLING},
        {"name": "P.Broken", "broken": "no-sequence", "settings": TELLING},
    ]
    name = publish(vm, plugins=plugins)
    until_in_force(vm, name)
    until("its handlers at the host", lambda: handlers(vm) == {"P.Good": -2, "P.Broken": -1})
    assert outcome(vm) == (name.rpartition("_")[2], "Success", 0)

    told = shown(vm, "--history")
    assert told["in_force"]["id"] == name
    assert [each["name"] for each in told["handlers"]] == ["P.Good", "P.Broken"]
    assert "history" not in shown(vm)
    newest = told["history"][0]
    files = set(vm.lab.output("ls", newest["path"]).split())
    assert files >= {"GoalState.xml", "ExtensionsConfig.xml", "SharedConfig.xml", "Certificates.json"}
    assert files >= {"HostingEnvironmentConfig.xml", "waagent_status.json"}
    # It is kept after it was put in force: the host may know of its handlers before.
    until("the older ones archived", lambda: all(x["is_archived"] for x in shown(vm, "--history")["history"][1:]))
    assert (mode(vm, HISTORY), mode(vm, f"{LIB}/SharedConfig.xml"), mode(vm, newest["path"])) == (0o700, 0o600, 0o700)
    assert b"<SharedConfig" in vm.lab.read(f"{LIB}/SharedConfig.xml")
    thumbprints = json.loads(vm.lab.read(f"{newest['path']}/Certificates.json"))
    assert [each["thumbprint"] for each in thumbprints] == vm.scene.steer("last")["thumbprints"]

    kept = vm.lab.run(
        ["grep", "-rlE", r"sig=[A-Za-z0-9%]|PRIVATE KEY", HISTORY, "/var/log/waagent.log", JOURNAL, AUDIT_LOG]
    )
    assert kept.stdout == ""
    assert "sig=" not in json.dumps(told)
    assert "in force: " + name in vm.ps_command()
    assert name in vm.lab.output(str(AGENT), "goal-state")


def test_what_cannot_be_used_leaves_the_last_one_in_force(vm: Vm) -> None:
    before = in_force(vm)
    publish(vm, plugins=[{"name": f"Publisher{number}.Type"} for number in range(10_000)])
    until("trouble", lambda: vm.ps().overview.contact.polls_failed >= 1, 30)
    contact = vm.ps().overview.contact
    assert contact.goal_state == before
    assert "ExtensionsConfig" in contact.trouble
    name = publish(vm, plugins=[])
    until_in_force(vm, name)
    until("no trouble", lambda: not vm.ps().overview.contact.trouble)

    demanding = publish(vm, features=["Unheard.Of"], plugins=[{"name": "P.Wanted", "settings": TELLING}])
    until_in_force(vm, demanding)
    until("a refusal", lambda: outcome(vm) == (demanding.rpartition("_")[2], "Failed", 2001))
    assert handlers(vm) == {}
    (wanted,) = shown(vm)["handlers"]
    assert (wanted["name"], wanted["code"]) == ("P.Wanted", 2001)
    assert "Unheard.Of" in wanted["message"]
    assert "Unheard.Of" in vm.ps_command()
    until_in_force(vm, publish(vm, plugins=[]))


def test_killed_in_the_middle_the_newest_is_reached_and_none_is_done_twice(vm: Vm) -> None:
    name = ""
    for gap in (0, 1, 2):
        seen = len(vm.scene.records())
        name = publish(vm, plugins=[{"name": f"P.Kill{gap}", "settings": TELLING}])
        until(
            "its documents",
            lambda seen=seen: [r for r in vm.scene.records()[seen:] if r["route"] == "extensionsconfig"],  # type: ignore[misc]
            every_s=0.001,
        )
        # The second is superseded before anybody has had the time to finish it.
        name = publish(vm) if gap == 1 else name
        kill_process(supervisor_pid(vm.agent))
    until_in_force(vm, name)
    run = replay(vm.lab.path(JOURNAL).read_bytes()).state.goal_state
    assert run is not None
    assert (run.id, run.ended, run.code) == (name, True, 0)
    assert max(ended(vm).values()) == 1
    until("the host knows", lambda: handlers(vm) == {"P.Kill2": -2})


def test_fast_track_comes_needs_certificates_and_is_withdrawn(vm: Vm) -> None:
    protected = [{"sequence": 1, "protected": {"password": SECRET}}]
    fast = publish_fast(vm, plugins=[{"name": "P.Fast", "settings": protected}], sequence=77)
    until_in_force(vm, fast)
    until("the host knows", lambda: outcome(vm) == (77, "Success", 0))
    assert shown(vm)["in_force"]["source"] == "HostGAPlugin"
    created = json.loads(vm.lab.read(f"{LIB}/fast_track.json"))["timestamp"]

    # As after a hibernation: the same incarnation, other certificates, and settings sealed for one of these.
    vm.scene.publish("rotate", "same-incarnation")
    rotated = publish_fast(vm, plugins=[{"name": "P.Rotated", "settings": protected}])
    until_in_force(vm, rotated)
    told = shown(vm)["in_force"]
    assert told["thumbprints"] == vm.scene.steer("last")["thumbprints"]
    assert "names certificates" not in vm.scene.log()

    # Sealed for a certificate that never comes: asked for once more, waited for, and then done without.
    stranger = [{"sequence": 1, "sealed": "AAAA", "thumbprint": "A" * 40}]
    lacking = publish_fast(vm, plugins=[{"name": "P.Lacking", "settings": stranger}])
    waits = until("it is told what is waited for", lambda: shown(vm)["waits"], every_s=0.05)
    assert waits == f"{lacking} names certificates that this VM does not have: {'A' * 40}"
    until_in_force(vm, lacking)
    assert (shown(vm)["waits"], vm.ps().overview.contact.waits) == ("", "")
    assert "it is put in force without them" in vm.scene.log()

    # Without FastTrack the WireServer's older one is told of, and not carried out; a newer one counts.
    vm.scene.steer("plugin unsupported")
    kill_process(supervisor_pid(vm.agent))
    until("the old one", lambda: in_force(vm).startswith("incarnation_"), 15)
    told = shown(vm)["in_force"]
    assert told["outdated"]
    assert told["created"] < json.loads(vm.lab.read(f"{LIB}/fast_track.json"))["timestamp"]
    assert json.loads(vm.lab.read(f"{LIB}/fast_track.json"))["timestamp"] > created
    name = publish(vm, plugins=[])
    until_in_force(vm, name)
    assert not shown(vm)["in_force"]["outdated"]
    assert max(ended(vm).values()) == 1


def test_settings_are_held_for_the_newest_goal_states_alone_and_shown_nowhere(vm: Vm) -> None:
    thumbprint = vm.scene.steer("last")["thumbprints"][0]  # type: ignore[index]
    for number in range(4):
        sealed = [{"sequence": 1, "sealed": f"{SEALED}{number}", "thumbprint": thumbprint}]
        until_in_force(vm, publish(vm, plugins=[{"name": f"P.Held{number}", "settings": sealed}]))
        until("one for each source that has said something", lambda: 1 <= held(vm) <= 2)
    kept = vm.lab.run(
        ["grep", "-rl", SEALED, HISTORY, "/var/log", "/var/lib/agent-supervisor", "/run/agent-supervisor"]
    )
    assert kept.stdout == ""
    assert SEALED not in vm.ps_command() + vm.scene.log() + json.dumps(shown(vm, "--history"))


def held(vm: Vm) -> int:
    """How many files of settings the supervisor has open."""
    targets = []
    for each in Path(f"/proc/{supervisor_pid(vm.agent)}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            targets.append(each.readlink().name)
    return sum(target.startswith(("memfd:extensions_config", "memfd:vm_settings")) for target in targets)


def test_a_plugin_that_is_gone_or_wrong_costs_nothing(vm: Vm) -> None:
    vm.scene.steer("plugin supported")
    kill_process(supervisor_pid(vm.agent))
    for fault in ("vmsettings:status=500", "vmsettings:status=410*1"):
        follow_in_spite_of(vm, fault)
    vm.scene.steer("fault vmsettings:status=500")
    until("ps tells of it", lambda: "vmSettings failed in a row: " in vm.ps_command())
    vm.scene.steer("clear")
    until_in_force(vm, publish_fast(vm, plugins=[]))
    until("ps tells no more of it", lambda: "vmSettings failed" not in vm.ps_command())
    # One that does not answer holds nothing up, either.
    follow_in_spite_of(vm, "vmsettings:silence")
    assert vm.ps().overview.contact.polls_failed == 0
    assert max(ended(vm).values()) == 1


def follow_in_spite_of(vm: Vm, fault: str) -> None:
    vm.scene.steer(f"fault {fault}")
    until_in_force(vm, publish(vm, plugins=[{"name": "P.Wire"}]))
    vm.scene.steer("clear")


def test_without_fast_track_nobody_asks_the_plugin_for_settings(vm: Vm) -> None:
    vm.lab.write("/etc/waagent.conf", OFTEN + b"Debug.EnableFastTrack=n\n")
    kill_process(supervisor_pid(vm.agent))
    vm.residents()
    publish_fast(vm, plugins=[])
    seen = len(vm.scene.records())
    until_in_force(vm, publish(vm, plugins=[]))
    until("no feature", lambda: [each["Key"] for each in told_features(vm)] == ["MultipleExtensionsPerHandler"])
    assert not [each for each in vm.scene.records()[seen:] if each["route"] == "vmsettings"]
