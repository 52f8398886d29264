# SPDX-License-Identifier: Apache-2.0
"""Extensions by a real boot: handlers of all sorts through their whole life, on a machine whose /var is noexec."""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from supervisor.extensions.trust import FOLDER as TRUSTED
from supervisor.policy_files import Places
from tests.fabric.handler_packages import WRONGS, Package
from tests.fabric.handlers_vm import LIB, HandlersVm, Wish, handlers_vm
from tests.fabric.package_signing import Signer
from tests.fabric.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

RULES = b"""[[extensions]]
name = "Denied.*"
why = "a test wants nothing of theirs to run"
allowed = false

[[extensions]]
name = "Greedy.*"
why = "a test has them ask for more than there is"
limits = { tasks = 40, memory_mib = 96 }

[[extensions]]
name = "Signed.*"
why = "a test trusts one publisher alone"
signature_required = true
"""
SIGNER = Signer.make()
GO = "/run/handlers-go"
ALL_BUT_LARGE = [how for how in WRONGS if how != "many"]


@pytest.fixture(scope="module")
def vm() -> Iterator[HandlersVm]:
    """One for all tests: each goal state says what there is to be, and the handlers before it are gone."""
    image = {f"{Places().overrides}/50-extensions.toml": RULES, f"{TRUSTED}/publisher.pem": SIGNER.authority}
    with handlers_vm(image=image, more=("--certificates=rsa,rsa",), noexec=True) as made:
        yield made


def settings(sequence: int = 0, **more: object) -> tuple[Mapping[str, object], ...]:
    return ({"sequence": sequence, "public": {}, **more},)


def carried_out(vm: HandlersVm, *wishes: Wish) -> None:
    assert vm.until_ended(vm.publish(*wishes)) == ("Success", 0)


def brief(vm: HandlersVm, handler: str) -> tuple[str, int]:
    told = vm.handler_status(handler)
    return (told["status"], told["code"]) if told else ("", 0)


def text(status: Mapping[str, Any]) -> str:
    """What is told of it."""
    said: str = status.get("formattedMessage", {}).get("message", "")
    return said


def environment(vm: HandlersVm, handler: str, verb: str) -> dict[str, str]:
    """What that verb had in its environment, the last time."""
    told: dict[str, str] = [each for each in vm.judge(handler) if each["verb"] == verb][-1]["environment"]
    return told


def test_a_handler_lives_its_whole_life(vm: HandlersVm) -> None:
    old = Package("Test.Life", "1.0.0", does={"enable": ["keep=kept by the old one"]})
    new = Package("Test.Life", "1.2.0", does={"disable": ["fail=0"]})
    carried_out(vm, Wish(old, settings=settings(3, public={"a": 1}, protected={"secret": "told nobody"})))
    assert vm.verbs("Test.Life") == ["install 1.0.0 3", "enable 1.0.0 3"]
    (_, enabled) = vm.judge("Test.Life")
    assert (enabled["public"], enabled["protected"]) == ({"a": 1}, {"secret": "told nobody"})
    assert enabled["folder"] == f"{LIB}/Test.Life-1.0.0"
    assert environment(vm, "Test.Life", "enable")["AZURE_GUEST_AGENT_EXTENSION_VERSION"] == "1.0.0"
    until("Ready, and its own status", lambda: text(vm.settings_status("Test.Life")) == "enabled by 1.0.0 with 3")
    assert brief(vm, "Test.Life") == ("Ready", 0)

    carried_out(vm, Wish(old, settings=settings(4)))
    assert vm.verbs("Test.Life")[2:] == ["enable 1.0.0 4"]

    carried_out(vm, Wish(new, settings=settings(5)))
    assert vm.verbs("Test.Life")[3:] == [
        "disable 1.0.0 4",
        "update 1.2.0 5",
        "uninstall 1.0.0 5",
        "install 1.2.0 5",
        "enable 1.2.0 5",
    ]
    assert vm.judge("Test.Life")[-1]["kept"] == "kept by the old one"
    told = environment(vm, "Test.Life", "update")
    assert (told["VERSION"], told["AZURE_GUEST_AGENT_UPDATING_FROM_VERSION"]) == ("1.2.0", "1.0.0")
    assert told["AZURE_GUEST_AGENT_DISABLE_CMD_EXIT_CODE"] == "0"
    assert not vm.lab.path(f"{LIB}/Test.Life-1.0.0").exists()

    carried_out(vm, Wish(old, settings=settings(6)))
    assert vm.verbs("Test.Life")[8:10] == ["disable 1.2.0 5", "update 1.2.0 6"]
    assert vm.verbs("Test.Life")[-1] == "enable 1.0.0 6"
    assert environment(vm, "Test.Life", "update")["VERSION"] == "1.0.0"

    begun = len(vm.judge("Test.Life"))
    carried_out(vm, Wish(old, "disabled", settings(6)))
    carried_out(vm, Wish(old, "uninstall", settings(6)))
    assert vm.verbs("Test.Life")[begun:] == ["disable 1.0.0 6", "uninstall 1.0.0 6"]
    assert not vm.lab.path(f"{LIB}/Test.Life-1.0.0").exists()
    # Whatever a test's handlers write is theirs; what is told of them has no secret in it.
    assert vm.lab.run(["grep", "-rlF", "told nobody", "/var/log", "/var/lib/agent-supervisor"]).stdout == ""


def test_one_handler_has_several_extensions(vm: HandlersVm) -> None:
    package = Package("Test.Several", flags={"supportsMultipleExtensions": True})
    both = [{"name": "one", "sequence": 1, "public": {}}, {"name": "two", "sequence": 7, "public": {}}]
    carried_out(vm, Wish(package, settings=both, more={"is_multi": True}))
    assert sorted(vm.verbs("Test.Several")[1:]) == ["enable 1.0.0 1 one", "enable 1.0.0 7 two"]
    assert vm.verbs("Test.Several")[0].startswith("install 1.0.0")
    until("both told", lambda: len(vm.handler_statuses("Test.Several")) == 2)
    both[0] = {"name": "one", "sequence": 2, "public": {}, "state": "disabled"}
    begun = len(vm.judge("Test.Several"))
    carried_out(vm, Wish(package, settings=both, more={"is_multi": True}))
    assert vm.verbs("Test.Several")[begun:] == ["disable 1.0.0 1 one", "enable 1.0.0 7 two"]
    until("one told", lambda: len(vm.handler_statuses("Test.Several")) == 1)


def test_levels_are_kept_and_a_failure_stops_those_that_depend_on_it(vm: HandlersVm) -> None:
    first = Wish(Package("Test.First", does={"enable": ["sleep=0.3", "late-status=0.3"]}), settings=settings(level=1))
    second = Wish(Package("Test.Second", does={"enable": ["fail=5", "status=error"]}), settings=settings(level=2))
    third = Wish(Package("Test.Third"), settings=settings(level=3))
    carried_out(vm, third, second, first)
    assert [bool(vm.judge(f"Test.{name}")) for name in ("First", "Second", "Third")] == [True, True, False]
    first_ended, second_began = vm.judge("Test.First.ended")[-1]["at"], vm.judge("Test.Second")[0]["at"]
    assert second_began > first_ended + 0.25
    assert brief(vm, "Test.First") == ("Ready", 0)
    assert brief(vm, "Test.Second") == ("NotReady", 1009)
    assert "it went wrong as it was told to" in text(vm.handler_status("Test.Second"))
    assert brief(vm, "Test.Third") == ("NotReady", -1)


def test_what_is_wrong_with_one_costs_the_others_nothing(vm: HandlersVm) -> None:
    broken = Wish(Package("Test.Broken"), more={"broken": "no-sequence"})
    nowhere = Wish(Package("Test.Nowhere"), places=[WRONGS["no-manifest"](Package("Test.Nowhere"))])
    denied = Wish(Package("Denied.One"))
    tries = Package("Test.Tries")
    # Each place but the last one has something that is to be refused.
    tried = Wish(tries, places=[*(tries.wrong(how) for how in ALL_BUT_LARGE), tries.zipped()])
    good = Wish(Package("Test.Good"))
    carried_out(vm, broken, nowhere, denied, tried, good)
    for name in ("Test.Tries", "Test.Good"):
        assert vm.verbs(name) == ["install 1.0.0 0", "enable 1.0.0 0"]
        until(f"{name} Ready", lambda name=name: brief(vm, name) == ("Ready", 0))  # type: ignore[misc]
    for name in ("Test.Broken", "Test.Nowhere", "Denied.One"):
        assert vm.verbs(name) == []
        assert vm.handler_status(name)["status"] == "NotReady"
    assert brief(vm, "Denied.One") == ("NotReady", 1009)
    assert '"Denied.*" in policy.d/50-extensions.toml' in text(vm.handler_status("Denied.One"))
    assert not vm.lab.path("/root/climbed").exists()


def test_where_packages_have_to_be_signed_only_signed_ones_are_used(vm: HandlersVm) -> None:
    def signed(name: str, signature_of: str) -> Wish:
        kind = {"type": name, "publisher": "Signed", "version": "1.0.0"}
        package = Package(f"Signed.{name}", manifest={"signingInfo": kind})
        signature = b"" if not signature_of else SIGNER.sign(package.zipped() + signature_of.encode().strip())
        return Wish(package, more={"signature": b64encode(signature).decode()})

    carried_out(vm, signed("Right", " "), signed("Other", "of something else"), signed("Bare", ""))
    assert vm.verbs("Signed.Right") == ["install 1.0.0 0", "enable 1.0.0 0"]
    assert brief(vm, "Signed.Right") == ("Ready", 0)
    for name in ("Signed.Other", "Signed.Bare"):
        assert vm.verbs(name) == []
        assert brief(vm, name)[0] == "NotReady"
        assert "sign" in text(vm.handler_status(name))


def test_by_fast_track_it_is_the_same(vm: HandlersVm) -> None:
    wish = Wish(Package("Test.Fast"), settings=settings(2, protected={"fast": True}))
    assert vm.until_ended(vm.publish_fast(wish, sequence=4711)) == ("Success", 0)
    assert vm.verbs("Test.Fast") == ["install 1.0.0 2", "enable 1.0.0 2"]
    assert vm.judge("Test.Fast")[-1]["protected"] == {"fast": True}
    vm.scene.steer("fast")


def test_a_greedy_one_meets_its_limits_and_the_others_go_on(vm: HandlersVm) -> None:
    bomb = Wish(Package("Greedy.Bomb", does={"enable": ["bomb"]}))
    eater = Wish(Package("Greedy.Eater", does={"enable": ["eat=400"]}))
    flood = Wish(Package("Test.Flood", does={"enable": ["say=it begins", "flood=64"]}))
    good = Wish(Package("Test.Beside"))
    carried_out(vm, bomb, eater, flood, good)
    assert vm.judge("Greedy.Bomb.bomb")[0]["forks"] < 40
    assert brief(vm, "Greedy.Eater") == ("NotReady", 1009)
    assert [each["verb"] for each in vm.judge("Greedy.Eater.ended")] == ["install"]
    assert vm.verbs("Test.Flood") == vm.verbs("Test.Beside") == ["install 1.0.0 0", "enable 1.0.0 0"]
    log = vm.lab.read("/var/log/azure/Test.Flood/CommandExecution.log")
    assert b"it begins" in log
    assert len(log) < 64 * 1024
    assert vm.lab.output("du", "-sm", "/var/log/azure/Test.Flood").split()[0] in {"0", "1"}


def test_each_sees_its_own_key_alone(vm: HandlersVm) -> None:
    def wishes(sequence: int, *looks: str) -> list[Wish]:
        public = {"does": {"enable": [f"attack={name}" for name in looks]}}
        protected: tuple[dict[str, object], ...] = (
            {"certificate": 0, "protected": {"mine": True}},
            {"certificate": 1, "protected": {"mine": True}},
            {},
        )
        return [
            Wish(Package(f"Test.Key{name}"), settings=settings(sequence, **({"public": public} | more)))
            for name, more in zip(("One", "Two", "None"), protected, strict=True)
        ]

    # A command's view is made when it starts: what is laid down later is no part of it.
    carried_out(vm, *wishes(0))
    carried_out(vm, *wishes(1, "keys", "secrets", "neighbours"))
    told: Any = vm.scene.steer("last")
    first, second = told["thumbprints"]
    for name, keys in (("KeyOne", [first]), ("KeyTwo", [second]), ("KeyNone", [])):
        found = {each["attack"]: each["got"] for each in vm.judge(f"Test.{name}.attacks")}
        assert found == {"keys": [f"{LIB}/{key}.prv" for key in keys], "secrets": [], "neighbours": []}
    assert [vm.judge(f"Test.{name}")[-1]["protected"] for name in ("KeyOne", "KeyTwo")] == [{"mine": True}] * 2


def test_one_that_is_stuck_delays_nobody_and_is_found_again(vm: HandlersVm) -> None:
    stuck = Package("Test.Stuck", does={"enable": [f"wait={GO}", "daemon"]})
    name = vm.publish(Wish(stuck), Wish(Package("Test.Quick")))
    until("the quick one Ready", lambda: brief(vm, "Test.Quick") == ("Ready", 0), 15)
    until("the stuck one begun", lambda: "enable 1.0.0 0" in vm.verbs("Test.Stuck"))
    assert vm.outcome()[0] != name
    vm.kill(vm.supervisor())
    until("an agent that answers", vm.ps)
    vm.lab.output("touch", GO)
    assert vm.until_ended(name) == ("Success", 0)
    assert vm.verbs("Test.Stuck") == ["install 1.0.0 0", "enable 1.0.0 0"]
    until("the stuck one Ready", lambda: brief(vm, "Test.Stuck") == ("Ready", 0))
    # What it left running lives on, in a slice of its own.
    (daemon,) = vm.daemons("Test.Stuck")
    assert "azure-vmextensions-Test.Stuck.slice" in vm.lab.read(f"/proc/{daemon}/cgroup").decode()


def test_what_no_goal_state_names_any_more_is_gone(vm: HandlersVm) -> None:
    carried_out(vm)
    until("none told", lambda: vm.status()["handlerAggregateStatus"] == [])
    until("no folders", lambda: not vm.lab.run(["sh", "-c", f"ls -d {LIB}/*-[0-9]*"]).stdout)
    assert vm.status()["handlerAggregateStatus"] == []
