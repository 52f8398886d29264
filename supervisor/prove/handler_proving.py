# SPDX-License-Identifier: Apache-2.0
"""Owns a proof of handlers' classes: all attempts from a command of each class and as root, and what they come to.

Runs in the process of `agent-supervisor prove`, as root. What it lays down on the machine it takes away again.
"""

import os
import sys
from collections.abc import Mapping, Sequence

from ipc.errors import AgentError
from ipc.messages.extension_rules import HandlerClass
from supervisor.extensions import left_file
from supervisor.extensions.status_files import MOST_BYTES
from supervisor.layout import Layout
from supervisor.prove import handler_attempts, handler_ground, handler_unit
from supervisor.prove.handler_attempts import Attempt, Outcome
from supervisor.prove.handler_cases import WAYS, Case
from supervisor.prove.handler_ground import Ground
from supervisor.prove.handler_verdict import Finding, judge, name_of

STATUS = "status"


def prove(cases: Sequence[Case], classes: Sequence[HandlerClass], logs: str) -> tuple[Finding, ...]:
    """By case, class and way; `logs` is Extension.LogDir. AgentError when they can't be tried, OSError from the
    kernel."""
    layout = Layout()
    attempts = [Attempt(name_of(case, way), case.line(way)) for case in cases for way in WAYS if case.line(way)]
    with handler_ground.made(layout, logs, sys.executable) as ground:
        handler_ground.write_attempts(ground, attempts)
        got: dict[HandlerClass, Mapping[str, Outcome]] = {}
        for name in classes:
            outcomes = {outcome.name: outcome for outcome in handler_unit.attempt(layout, logs, ground, name)}
            got[name] = outcomes | _read_back(cases, outcomes, ground)
        handler_unit.close(ground)
        # What a class has come by is there; the rest is tried without confinement.
        there = {name: outcome for outcomes in got.values() for name, outcome in outcomes.items() if outcome.reached}
        bare = there | _as_root(cases, [each for each in attempts if each.name not in there], ground)
    return tuple(
        judge(case, name, way, got[name], bare) for case in cases for name in classes for way in WAYS if case.line(way)
    )


def _as_root(cases: Sequence[Case], attempts: Sequence[Attempt], ground: Ground) -> dict[str, Outcome]:
    """What shows that there is something to reach."""
    shown = {name_of(case, way) for case in cases if case.evidence != "none" for way in WAYS}
    environment = {**os.environ, **ground.environment}
    made = (handler_attempts.make(attempt, environment) for attempt in attempts if attempt.name in shown)
    return {outcome.name: outcome for outcome in made}


def _read_back(cases: Sequence[Case], outcomes: Mapping[str, Outcome], ground: Ground) -> dict[str, Outcome]:
    """What the agent's own reader has of the files that the command has left in its status folder, which go."""
    found = {}
    for case in cases:
        name = name_of(case, "plain")
        if case.read_back and name in outcomes and outcomes[name].reached:
            found[name] = _read(name, ground.base, case.read_back)
            os.unlink(f"{ground.base}/{STATUS}/{case.read_back}")
    return found


def _read(name: str, base: str, file: str) -> Outcome:
    folder = left_file.enter(base, STATUS)
    try:
        _, content = left_file.copy(folder, file, MOST_BYTES)
        os.close(content)
    except AgentError as refusal:
        return Outcome(name, False, "", str(refusal))
    finally:
        os.close(folder)
    return Outcome(name, True)
