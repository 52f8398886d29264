# SPDX-License-Identifier: Apache-2.0
"""`agent-supervisor prove` as a process in a lab: every kind holds, nothing is left behind, what is asked wrongly is
refused."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from policy.load import load
from supervisor.prove import throwaway
from tests.fabric.lab import PROJECT, Lab

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]  # on a machine that does nothing else it takes some seconds

KINDS = [compiled.profile.kind for compiled in load().programs]
SCHEMA = json.loads((PROJECT / "docs/prove.schema.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


def prove(lab: Lab, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "supervisor", "prove", *arguments]
    return lab.run(command, cwd=str(PROJECT), cgroup="agent", timeout_s=280)


@pytest.fixture(scope="module")
def all_kinds(lab: Lab) -> dict[str, Any]:
    """The whole catalogue: a kind that is left out is one that nobody has tried."""
    done = prove(lab, "--json")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_every_kind_holds(all_kinds: dict[str, Any]) -> None:
    assert [row["kind"] for row in all_kinds["kinds"]] == [*KINDS, "local user"]
    assert {case["state"] for case in all_kinds["cases"]} <= {"stopped", "granted", "not applicable"}
    assert all_kinds["holds"]


def test_it_has_the_shape_that_is_promised(all_kinds: dict[str, Any]) -> None:
    jsonschema.validate(all_kinds, SCHEMA, jsonschema.Draft202012Validator)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**all_kinds, "holds": "yes"}, SCHEMA, jsonschema.Draft202012Validator)


def test_unconfined_all_that_counts_succeeds(all_kinds: dict[str, Any]) -> None:
    counted = [case for case in all_kinds["cases"] if case["state"] == "stopped"]
    assert {case["unconfined"] for case in counted} == {"succeeded"}
    assert len(counted) > 5 * len(KINDS)


def states(found: dict[str, Any], attack: str) -> dict[str, str]:
    return {case["kind"]: case["state"] for case in found["cases"] if case["id"] == attack}


def test_what_a_policy_grants_is_told_by_name(all_kinds: dict[str, Any]) -> None:
    shadow = states(all_kinds, "reads-shadow")
    assert (shadow["password-programs"], shadow["parser"], shadow["vault"]) == ("granted", "stopped", "stopped")
    wire = states(all_kinds, "connects-to-the-wireserver")
    assert {kind for kind, state in wire.items() if state == "granted"} >= {"supervisor", "spawner"}
    assert wire["account"] == wire["parser"] == "stopped"
    case = next(case for case in all_kinds["cases"] if (case["id"], case["kind"]) == ("sets-the-host-name", "hostname"))
    assert (case["state"], case["detail"]) == ("granted", "capability sys_admin, the host's uts namespace")


def test_nothing_is_left_and_nothing_was_changed(lab: Lab, all_kinds: dict[str, Any]) -> None:
    assert all_kinds["holds"]
    assert [change for change in lab.changed() if "__pycache__" not in change.path] == []
    assert [process for process in lab.processes() if "prove" in process.argv] == []
    left = [folder for top in lab.cgroups.values() for folder in top.glob("**/agent-supervisor-prove*")]
    assert left == []


def test_one_kind_is_told_case_by_case(lab: Lab) -> None:
    done = prove(lab, "vault", "--case", "reads-shadow", "--case", "packet-socket")
    assert done.returncode == 0, done.stderr
    assert "   1  reads-shadow" in done.stdout
    assert "stopped by seccomp (SIGSYS)" in done.stdout
    assert "vault        2        0              0               0  2 of 2 succeed" in done.stdout
    assert "an extension sends telemetry in another one's name" not in done.stdout


def test_without_systemd_classes_of_handlers_are_told_to_be_unproven(lab: Lab) -> None:
    done = prove(lab, "contained")
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 1)
    assert "Handlers' classes could not be proven: systemd does not run here" in done.stdout
    assert "no handler's class" in prove(lab, "compat", "--without", "seccomp").stderr


def test_wrong_questions_are_refused(lab: Lab) -> None:
    assert "there is no kind of process sparrow" in prove(lab, "sparrow").stderr
    assert "there is no attack theft" in prove(lab, "--case", "theft").stderr
    assert prove(lab, "sparrow").returncode == 2
    done = prove(lab, "compat", "--case", "packet-socket")
    assert (done.returncode, done.stdout) == (2, "")
    assert "nothing is tried: of compat there is no packet-socket" in done.stderr


def test_nothing_is_weakened_on_the_machine_itself() -> None:
    """This one runs outside the lab: it must refuse before it does anything."""
    command = [sys.executable, "-m", "supervisor", "prove", "--without", "seccomp"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "in throw-away namespaces over an overlay only" in done.stderr


@pytest.mark.parametrize(
    ("namespaces", "root", "refusal"),
    [
        ({}, "overlay", ""),
        ({}, "ext4", "no overlay"),
        ({"pid": 0xEFFFFFFC}, "overlay", "the machine's own pid namespace"),
        ({"uts": 0xEFFFFFFE}, "overlay", "the machine's own uts namespace"),
    ],
)
def test_what_is_thrown_away_is_told_from_the_kernel(
    namespaces: dict[str, int], root: str, refusal: str, tmp_path: Any
) -> None:
    folder = tmp_path / "self/ns"
    folder.mkdir(parents=True)
    for name in throwaway.FIRST:
        (folder / name).symlink_to(f"{name}:[{namespaces.get(name, 4026532000)}]")
    line = f"21 1 0:20 / / rw,relatime - {root} lab rw\n22 21 0:21 / /proc rw - proc proc rw\n"
    (tmp_path / "self/mountinfo").write_text(line)
    assert refusal in throwaway.why_not(str(tmp_path))
    assert bool(refusal) == bool(throwaway.why_not(str(tmp_path)))


def test_a_control_left_out_lets_its_cases_succeed(lab: Lab) -> None:
    done = prove(lab, "--without", "rlimits", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["without"] == ["rlimits"]
    assert states(found, "takes-all-descriptors") == {"parser": "succeeded"}
    jsonschema.validate(found, SCHEMA, jsonschema.Draft202012Validator)
