# SPDX-License-Identifier: Apache-2.0
"""Owns one run of the oracle: the same media provisioned by the distribution's agent and by ours, side by side.

Runs in the test or the command, as root, in labs of its own. It judges nothing.
"""

import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from tests.fabric.lab import Lab
from tests.fabric.scene import Scene, Wanted
from tests.fabric.waiting import WaitedInVain, until
from tests.oracle import machine
from tests.oracle.end_state import describe
from tests.oracle.expected import REQUESTS
from tests.oracle.package import Package, find

# What is on the media: everything that both know, and what a user with a key alone asks for.
MEDIA = {
    "password and key": Wanted(),
    "key alone": Wanted(password=None, custom_data=None, disable_password=True, host_name="vm-keyed"),
}
# The type of host keys, so that two cores are not busy with RSA for six machines.
KEY_TYPES = {"password and key": "auto", "key alone": "ed25519"}
# An account that neither agent gives a password to: provisioning fails, and the host is told so.
FORBIDDEN = Wanted(user="daemon")
# UDF for our reader, ISO9660 with Joliet for the stand-in: the same file.
FORM = "bridge"
READY_WITHIN_S = 30.0
# It sends its telemetry five seconds after its goal state process has begun.
SEEN_WITHIN_S = 20.0

Records = list[dict[str, Any]]


@dataclass(frozen=True)
class Side:
    """What one agent left behind: facts by name, and what it asked of the host."""

    facts: dict[str, str]
    records: Records
    log: str
    calls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """Both agents on every medium, by the medium's name; what the host heard of theirs, and of ours, of the forbidden
    one; `seconds` is how long all took."""

    package: Package
    theirs: dict[str, Side]
    ours: dict[str, Side]
    failed: tuple[Records, Records]
    seconds: float


def perform() -> Run:
    """All of it. Raises NoPackage, LabError, WaitedInVain."""
    began = time.monotonic()
    package = find()
    with ExitStack() as stack:
        pairs = {name: _pair(stack, package, wanted, KEY_TYPES[name]) for name, wanted in MEDIA.items()}
        failing = _pair(stack, package, FORBIDDEN, "ed25519")
        theirs = {name: machine.start_agent(pair[0]) for name, pair in pairs.items()}
        ours = {name: pair[1].start_agent() for name, pair in pairs.items()}
        machine.start_agent(failing[0])
        failing[1].start_agent()
        for name, pair in pairs.items():
            _wait_for_ready(pair[0], theirs[name], pair[0].is_ready)
            _wait_for_ready(pair[1], ours[name], pair[1].is_settled)
        for scene in failing:
            until("the verdict on the forbidden account", scene.is_decided, READY_WITHIN_S)
        for name, pair in pairs.items():
            _wait_for_requests(pair[0], theirs[name])
        return Run(
            package,
            {name: _side(pair[0], MEDIA[name], machine.calls(pair[0].lab)) for name, pair in pairs.items()},
            {name: _side(pair[1], MEDIA[name]) for name, pair in pairs.items()},
            (failing[0].records(), failing[1].records()),
            time.monotonic() - began,
        )


def kinds(records: Iterable[dict[str, Any]]) -> set[str]:
    """Which of expected.REQUESTS were made."""
    asked = [line(record) for record in records]
    return {name for name, form in REQUESTS.items() if any(form.fullmatch(one) for one in asked)}


def line(record: dict[str, Any]) -> str:
    """One request as METHOD http://HOST/TARGET."""
    host = next((value for name, value in record["headers"] if name.lower() == "host"), "?")
    return f"{record['method']} http://{host}{record['target']}"


def _pair(stack: ExitStack, package: Package, wanted: Wanted, keys: str) -> tuple[Scene, Scene]:
    """A VM for theirs and one for ours, with the host up and the same medium in the drive."""
    theirs, ours = (Scene(stack.enter_context(Lab(machine.image(one, keys)))) for one in (package, None))
    for scene in (theirs, ours):
        machine.start_host(scene, wanted.medium(FORM))
    return theirs, ours


def _wait_for_ready(scene: Scene, agent: subprocess.Popen[bytes], is_done: Callable[[], bool]) -> None:
    def over() -> bool:
        failed = scene.is_decided() and not scene.is_ready()
        return is_done() or failed or agent.poll() is not None

    try:
        until("Ready", over, READY_WITHIN_S)
    except WaitedInVain as vain:
        raise WaitedInVain(f"{vain}; the agent said:\n{scene.log()}") from None
    if not is_done():
        raise WaitedInVain(f"the agent did not provision; it said:\n{scene.log()}")


def _wait_for_requests(scene: Scene, agent: subprocess.Popen[bytes]) -> None:
    def over() -> bool:
        return kinds(scene.records()) == set(REQUESTS) or agent.poll() is not None

    until("every kind of request that the other agent makes at its start", over, SEEN_WITHIN_S)


def _side(scene: Scene, wanted: Wanted, calls: Iterable[str] = ()) -> Side:
    return Side(describe(scene, wanted), scene.records(), scene.log(), tuple(calls))
