# SPDX-License-Identifier: Apache-2.0
"""Owns one boot with kills in it: from the first start to the settled end, and the judgement over that end.

Runs in the test, a lab for each boot; it plays the service manager, which starts the agent again when it ends.
"""

import json
from collections import Counter
from collections.abc import Callable, Set
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from supervisor.cli.client import ask
from supervisor.layout import Layout
from supervisor.status import Snapshot
from supervisor.verbs import PS
from tests.fabric.demo_kills import Unit
from tests.fabric.lab import Lab
from tests.fabric.outcome import judge
from tests.fabric.scene import Scene, Wanted, image_files
from tests.fabric.surroundings import Surroundings
from tests.fabric.vm import QUICK
from tests.fabric.waiting import WaitedInVain, until
from tests.kills.end_state import EndState, differences, end_state, journal_of, keys_unlike_reported
from tests.kills.killer import Gap, Kill, Killer, Slow, killing
from tests.kills.processes import COMPANION, RESIDENTS, SPAWNER, SUPERVISOR
from tests.kills.traced import TracedScene

SETTLED_WITHIN_S, COMES_TO_REST_S = 90.0, 10.0
# Everything that can be asked for; what the custom data does is to be done once, so it says each time that it is.
CONFIG = QUICK + b"Provisioning.ExecuteCustomData=y\nExtensions.GoalStatePeriod=1\n"
# What the host wants once the VM is provisioned: certificates, and settings sealed for one of them.
PLAN = {"plugins": [{"name": "Publisher.Type", "settings": [{"sequence": 1, "protected": {"told": "nobody"}}]}]}
HOST = ("--certificates=rsa", f"--plan={json.dumps(PLAN)}")
TRACE = "/var/tmp/custom-data-was-here"
WANTED = Wanted(custom_data=f"#!/bin/sh\necho done >>{TRACE}\n".encode())
# Whoever is killed in between can't know how far it came: then it is not run another time, and the log says so.
CUT_SHORT = "not run again"
# Judged here, with the kills in mind, instead of by outcome.py.
ABOUT_REPORTS = ("reports: NotReady, then one Ready", "the host refused nothing")
# To the WireServer two, to the HostGAPlugin, to the metadata service.
CONNECTIONS = 4
# A job may cost three workers, a fourth death fails it; the unit may be started ten times in half a minute.
WORKERS_A_JOB, STARTS_A_BOOT, LIVES_A_BOOT = 3, 8, 5
VERIFIER, WORKERS = "verifier", "workers"


@dataclass(frozen=True)
class Mode:
    """Who is killed in a boot. `each` and `most`: kills of one kind of process, and of all."""

    name: str
    victims: Callable[[str], bool]
    slow: Slow
    each: int
    most: int


# Not mixed: what a killed worker leaves must be cleared away without a restart of others, too.
MODES = (
    Mode(SPAWNER, lambda process: process == SPAWNER, "worker", STARTS_A_BOOT, STARTS_A_BOOT),
    Mode(SUPERVISOR, lambda process: process == SUPERVISOR, "supervisor", LIVES_A_BOOT, LIVES_A_BOOT),
    Mode(VERIFIER, lambda process: process == VERIFIER, "supervisor", WORKERS_A_JOB, WORKERS_A_JOB),
    Mode(WORKERS, lambda process: process not in {*RESIDENTS, VERIFIER}, "supervisor", WORKERS_A_JOB, 99),
)


@dataclass
class Chooser:
    """Says yes to each wanted gap once, as long as its kind can bear another kill in this boot; with a worker dies its
    companion, and the other way round: their kills count together."""

    wanted: Set[Gap]
    mode: Mode
    hit: set[Gap] = field(default_factory=set)
    _each: Counter[str] = field(default_factory=Counter)

    def __call__(self, gap: Gap) -> bool:
        kind = gap.process.removesuffix(COMPANION)
        full = self._each.total() >= self.mode.most or self._each[kind] >= self.mode.each
        if gap not in self.wanted or gap in self.hit or full:
            return False
        self.hit.add(gap)
        self._each[kind] += 1
        return True


@dataclass(frozen=True)
class Boot:
    """What came of one: `seen` gaps until it had settled, `kills` delivered, `wrong` everything that is not as it
    should be, with the log then; `readies` that the host accepted."""

    seen: tuple[Gap, ...]
    kills: tuple[Kill, ...]
    wrong: tuple[str, ...]
    end: EndState | None
    starts: int = 0
    readies: int = 0
    log: str = ""


def boot(wanted: Set[Gap], mode: Mode, undisturbed: tuple[EndState, EndState] | None = None) -> Boot:
    """A first boot, killed in the `wanted` gaps as far as `mode` lets; then compared with `undisturbed` ones."""
    around = Surroundings.make()
    with killing(Chooser(wanted, mode), mode.slow) as killer, Lab(image_files(CONFIG) | around.files()) as lab:
        scene = TracedScene(lab, killer=killer)
        around.start_host(scene, more=HOST)
        scene.insert(WANTED.medium())
        unit = Unit(scene)
        try:
            return _judged(scene, unit, killer, undisturbed)
        finally:
            killer.disarm()
            unit.stop()


def _judged(scene: TracedScene, unit: Unit, killer: Killer, undisturbed: tuple[EndState, EndState] | None) -> Boot:
    wrong: list[str] = []
    end = None
    try:
        for last in (killer.disarm, lambda: None):  # once more, after the last that could be killed
            until("a settled VM", lambda: _is_settled(scene, unit, killer), SETTLED_WITHIN_S)
            last()
        end = _end_of(scene, undisturbed)
        wrong += [f"{check.what}: {check.found}" for check in judge(scene, WANTED) if not check.right]
        wrong = [text for text in wrong if not text.startswith(ABOUT_REPORTS)]
        wrong += keys_unlike_reported(scene) + _reports(scene, killer.kills) + _done_twice(scene)
        wrong += _unlike(scene, end, undisturbed)
    except WaitedInVain as error:
        wrong.append(str(error))
    readies = [report.health.state for report in scene.reports()].count("Ready")
    return Boot(
        tuple(killer.seen), tuple(killer.kills), tuple(wrong), end, unit.starts, readies, scene.log() if wrong else ""
    )


def _end_of(scene: Scene, undisturbed: tuple[EndState, EndState] | None) -> EndState:
    """The state that it comes to: the poll of a new goal state may have a parser at work just now."""
    found: list[EndState] = []

    def is_right() -> bool:
        is_quiet = not scene.workers()
        try:
            found.append(end_state(scene))
        except FileNotFoundError:  # what was being looked at has just gone
            return False
        return is_quiet and not scene.workers() and not _unlike(scene, found[-1], undisturbed)

    with suppress(WaitedInVain):
        until("the end of an undisturbed boot", is_right, COMES_TO_REST_S, 0.3)
    return found[-1] if found else end_state(scene)


def _unlike(scene: Scene, end: EndState, undisturbed: tuple[EndState, EndState] | None) -> list[str]:
    """What `end` should not be; custom data that was cut short may have done less, but nothing twice."""
    found = differences(end, *undisturbed) if undisturbed else []
    if CUT_SHORT in scene.log() and scene.lab.run(["grep", "-c", "done", TRACE]).stdout.strip() in {"", "0", "1"}:
        found = [text for text in found if TRACE not in text]
    return found


def _is_settled(scene: Scene, unit: Unit, killer: Killer) -> bool:
    """Ready accepted and noted, a goal state in force and told, everything done that comes after, nobody at work any
    more."""
    if killer.trouble is not None:
        raise killer.trouble
    if not (unit.keep_running() and scene.is_settled() and scene.is_fresh() and not scene.workers()):
        return False
    try:
        answer = ask(str(scene.lab.path(Layout().control_socket)), PS)
    except OSError:
        return False
    overview = msgspec.json.decode(answer.data, type=Snapshot).overview
    is_told = bool(overview.contact.goal_state and overview.contact.status_accepted)
    return is_told and overview.phase == "steady" and not scene.workers() and journal_of(scene).ready


def _done_twice(scene: Scene) -> list[str]:
    """Goal states that came to their end more than once, by the audit log."""
    entries = map(json.loads, scene.lab.read(Layout().audit_log).decode().splitlines())
    ends = Counter(each["request"] for each in entries if each["event"] == "goal-state" and each["decision"] == "done")
    return [f"{name} was carried out {times} times" for name, times in ends.items() if times > 1]


def _reports(scene: Scene, kills: list[Kill]) -> list[str]:
    """NotReady, then Ready once, and once more for each kill between the host's acceptance and our note of it."""
    said = [report.brief for report in scene.reports()]
    readies = said.count("Ready")
    found = []
    if not 1 <= readies <= 1 + sum(kill.in_doubt for kill in kills):
        found.append(f"Ready was accepted {readies} times: {said}")
    first = said.index("Ready") if readies else len(said)
    if set(said[first:]) != {"Ready"} or not all(one.startswith("NotReady Provisioning") for one in said[:first]):
        found.append(f"reports in another order: {said}")
    if any("ProvisioningFailed" in one for one in said):
        found.append(f"a failure was reported: {said}")
    verdicts = Counter(str(record["verdict"]) for record in scene.records())
    # A request of whoever is killed in it is cut off: one on each connection.
    most_broken = CONNECTIONS * sum(kill.gap.process in RESIDENTS for kill in kills)
    if verdicts["refused"] or verdicts["broken"] > most_broken:
        found.append(f"requests that the host refused, or got in part: {dict(verdicts)}")
    return found
