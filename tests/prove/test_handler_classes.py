# SPDX-License-Identifier: Apache-2.0
"""`prove` for the classes of handlers, under systemd: both reach what is expected, and without a control more."""

import re
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from supervisor.prove.handler_cases import CLASSES
from tests.fabric.lab import PROJECT
from tests.fabric.systemd_lab import SystemdLab
from tests.prove import handler_controls
from tests.prove.__main__ import MATRIX
from tests.prove.handler_controls import CONTROLS
from tests.prove.test_prove_command import SCHEMA

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

ROWS = [line.strip("| ").split(" | ") for line in Path(PROJECT, MATRIX).read_text(encoding="utf-8").splitlines()]
FLIPS = {row[0]: re.findall("`([^`]+)`", row[3]) for row in ROWS if row[0] in CONTROLS}


@pytest.fixture(scope="module")
def lab() -> Iterator[SystemdLab]:
    with handler_controls.lab() as lab:
        yield lab


def left(lab: SystemdLab) -> str:
    """What a proof could leave."""
    places = "/var/lib/waagent /var/log/azure /run/agent-supervisor/handlers"
    units = "systemctl list-units --all --plain --no-legend 'agent-supervisor*' 'azure-vmextensions-*' 'run-*.service'"
    return lab.output("sh", "-c", f"find {places} -mindepth 1 2>/dev/null; {units}")


def test_both_classes_reach_what_is_expected_and_nothing_is_left(lab: SystemdLab) -> None:
    before = left(lab)
    # Of one that was killed.
    lab.output(
        "mkdir", "-p", "/var/lib/waagent/AgentSupervisor.Prove999999/bin", "/run/agent-supervisor/handlers/-1999998"
    )
    lab.output("touch", f"/var/lib/waagent/{999999:040X}.prv")
    found = handler_controls.proven(lab, *CLASSES)
    jsonschema.validate(found, SCHEMA, jsonschema.Draft202012Validator)
    assert found["handlers"]["holds"]
    states = {(each["id"], each["class"], each["way"]): each["state"] for each in found["handlers"]["cases"]}
    assert "broken" not in states.values()
    for way, state in (("plain", "refused"), ("determined", "reached")):
        assert states["anothers-settings", "compat", way] == states["the-agents-memory", "compat", way] == state
    contained = [case for (case, name, _), state in states.items() if (name, state) == ("contained", "reached")]
    assert sorted(contained) == ["fills-the-disk", "its-own-keys"]
    assert sum(state == "not applicable" for state in states.values()) < len(states) / 4
    assert left(lab) == before


def test_the_document_has_every_control_and_each_stops_something() -> None:
    assert list(FLIPS) == list(CONTROLS)
    assert all(FLIPS.values())


@pytest.mark.parametrize("control", CONTROLS)
def test_without_a_control_a_class_reaches_what_the_document_says_and_prove_fails(
    lab: SystemdLab, control: str
) -> None:
    assert handler_controls.wrong(lab, control, FLIPS[control]) == FLIPS[control]


def test_people_are_told_too(lab: SystemdLab) -> None:
    with handler_controls.without(lab, ["cover of others' keys"]):
        done = lab.run([handler_controls.PROGRAM, "prove", "compat", "--case", "anothers-keys"])
    assert done.returncode == 1
    assert "!reached / reached" in done.stdout
    assert "compat: in its view 1, as one who means it 1" in done.stdout
    assert "[anothers-keys, plain]: REACHED, expected is refused" in done.stdout


def test_what_could_not_be_tried_is_no_proof(lab: SystemdLab) -> None:
    lab.output("sh", "-c", "rmdir /var/log/azure; touch /var/log/azure")
    try:
        found = handler_controls.proven(lab, "contained", "--case", "reads-shadow")
    finally:
        lab.output("rm", "/var/log/azure")
    assert (found["holds"], found["handlers"]["cases"]) == (False, [])
    assert "Not a directory" in found["handlers"]["problem"]
