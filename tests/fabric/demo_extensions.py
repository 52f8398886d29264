# SPDX-License-Identifier: Apache-2.0
"""Owns the demo's part about extensions: a handler's life, several at once, and one among them that attacks.

Runs in the demo, outside the lab. What it tells is what the handlers' judges saw, and what the host was told.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from supervisor.clock import SystemClock
from tests.fabric.handler_packages import Package
from tests.fabric.handlers_vm import HandlersVm, Wish, handlers_vm
from tests.fabric.page import Page
from tests.fabric.waiting import WaitedInVain, until

WITHIN_S = 20.0
LIFE, OTHER, HOSTILE = "Demo.Life", "Demo.Beside", "Demo.Hostile"
ATTACKS = ("keys", "secrets", "neighbours", "wire", "manifest", "status-link")
RULES = b"""[[extensions]]
name = "Demo.Refused"
why = "to show what the host is told then"
allowed = false
"""


@dataclass(frozen=True)
class Step:
    """What the platform publishes, and what each handler's judge is to see; `status` of LIFE after it."""

    what: str
    wishes: Callable[[], Sequence[Wish]]
    begun: dict[str, list[str]]
    status: tuple[str, int] = ("Ready", 0)


def _life(version: str, sequence: int, state: str = "enabled") -> Wish:
    settings = {"sequence": sequence, "public": {"said": "hello"}, "protected": {"secret": "told nobody"}}
    return Wish(Package(LIFE, version), state, (settings,))


def _hostile(state: str = "enabled") -> Wish:
    does = {"enable": [f"attack={name}" for name in ATTACKS]}
    return Wish(Package(HOSTILE, does=does), state, ({"sequence": 1, "public": {}},))


STEPS = (
    Step("a handler that is new", lambda: [_life("1.0.0", 1)], {LIFE: ["install 1.0.0 1", "enable 1.0.0 1"]}),
    Step("new settings", lambda: [_life("1.0.0", 2)], {LIFE: ["enable 1.0.0 2"]}),
    Step(
        "a newer version; beside it one that floods and fails, and one that policy refuses",
        lambda: [
            _life("1.1.0", 3),
            Wish(Package(OTHER, does={"enable": ["flood=16", "fail=7"]})),
            Wish(Package("Demo.Refused")),
        ],
        {
            LIFE: ["disable 1.0.0 2", "update 1.1.0 3", "uninstall 1.0.0 3", "install 1.1.0 3", "enable 1.1.0 3"],
            OTHER: ["install 1.0.0 0", "enable 1.0.0 0"],
        },
    ),
    Step(
        f"one that attacks: {', '.join(ATTACKS)}",
        lambda: [_life("1.1.0", 3), _hostile()],
        {LIFE: ["enable 1.1.0 3"], HOSTILE: ["install 1.0.0 1", "enable 1.0.0 1"]},
    ),
    Step(
        "all of it uninstalled",
        lambda: [_life("1.1.0", 3, "uninstall"), _hostile("uninstall")],
        {LIFE: ["disable 1.1.0 3", "uninstall 1.1.0 3"], HOSTILE: ["disable 1.0.0 1", "uninstall 1.0.0 1"]},
        ("", 0),
    ),
)


def show(page: Page) -> None:
    """A VM of its own with systemd, the steps, and what its commands show before the last of them."""
    page.heading("Extensions (seconds since each goal state was published)")
    try:
        with handlers_vm(image={"/etc/agent-supervisor/policy.d/50-demo.toml": RULES}) as vm:
            for step in STEPS:
                if step is STEPS[-1]:
                    _commands(page, vm)
                _play(page, vm, step)
    except WaitedInVain as vain:
        page.check("extensions", False, "\n".join([str(vain), *getattr(vain, "__notes__", ())]))


def _play(page: Page, vm: HandlersVm, step: Step) -> None:
    """One step: what was run, and whether it was that. Raises WaitedInVain."""
    seen = {name: len(vm.judge(name)) for name in (LIFE, OTHER, HOSTILE)}
    attacked = len(vm.judge(f"{HOSTILE}.attacks"))
    began = SystemClock().monotonic()
    page.line(step.what)
    how, code = vm.until_ended(vm.publish(*step.wishes()), WITHIN_S)
    told = [(each["at"] - began, name, each) for name, count in seen.items() for each in vm.judge(name)[count:]]
    for after_s, name, each in sorted(told, key=lambda entry: entry[0]):
        page.line(f"{after_s:8.3f}  {name} {each['version']}: {each['verb']}")
    for each in vm.judge(f"{HOSTILE}.attacks")[attacked:]:
        page.line(f"          . {each['attack']}: {each['got'] or 'got nothing'}")
        harmless = each["attack"] in {"manifest", "status-link"} or not each["got"]
        page.check(f"{each['attack']} got nothing", harmless, str(each["got"] or "nothing"))
    right = all(vm.verbs(name)[count:] == step.begun.get(name, []) for name, count in seen.items())
    page.check("run as wanted, each once", right and (how, code) == ("Success", 0), f"the goal state: {how}, {code}")
    until("its status at the host", lambda: _status(vm) == step.status, WITHIN_S)
    for each in vm.status().get("handlerAggregateStatus", ()):
        said = each.get("formattedMessage", {}).get("message", "").splitlines() or [""]
        page.line(f"          . at the host: {each['handlerName']} {each['status']} {each['code']} {said[0][:80]}")
    told_secret = vm.lab.run(["grep", "-rlF", "told nobody", "/var/log", "/var/lib/agent-supervisor"]).stdout
    page.check("no secret told", not told_secret, told_secret or "by nobody")


def _status(vm: HandlersVm) -> tuple[str, int]:
    told = vm.handler_status(LIFE)
    return (told["status"], told["code"]) if told else ("", 0)


def _commands(page: Page, vm: HandlersVm) -> None:
    for command in ("extensions", "ps"):
        page.heading(f"agent-supervisor {command}")
        page.text(vm.command(command))
