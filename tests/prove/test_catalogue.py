# SPDX-License-Identifier: Apache-2.0
"""The attack catalogue: whole, well-formed, and what of a policy makes an attack its right."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from ipc.errors import ConfigError
from policy.capability import NAMES
from supervisor.prove import probes
from supervisor.prove.catalogue import (
    CONTROLS,
    DROPPABLE,
    EVERYTHING,
    Attack,
    Grant,
    Reach,
    applies_to,
    granted_by,
    lint,
    read_catalogue,
)
from supervisor.prove.controls import DROPS
from supervisor.prove.handler_cases import read_cases
from supervisor.prove.raw import KNOWN
from tests.jail.profiles import capabilities, grants, profile
from tests.prove.documents import attacks_document

PROJECT = Path(__file__).resolve().parents[2]
CATALOGUE = read_catalogue()


def attack(**parts: object) -> Attack:
    plain: dict[str, object] = {
        "id": "one",
        "title": "tries something or other",
        "origin": "worker",
        "probe": "opens",
        "controls": ("landlock",),
    }
    return Attack(**(plain | parts))  # type: ignore[arg-type]


def problems(*attacks: Attack) -> list[str]:
    found = lint(attacks, probes.ALL, NAMES)
    return [line for line in found if "of the sixty is missing" not in line]


def test_the_catalogue_is_as_it_should_be() -> None:
    assert lint(CATALOGUE, probes.ALL, NAMES) == []
    assert {each.number for each in CATALOGUE} == {*range(61)}


def test_every_probe_is_somebodys() -> None:
    assert {each.probe for each in CATALOGUE if each.probe} == probes.ALL


def test_every_control_that_can_be_left_out_is_meant_to_stop_something() -> None:
    assert set(DROPS) == set(DROPPABLE)
    for control, drop in DROPS.items():
        assert drop.among(CATALOGUE), control
        assert set(drop.behind) <= set(DROPPABLE) - {control}


def test_every_control_is_somebodys() -> None:
    named = {control for each in CATALOGUE for control in each.controls}
    assert set(CONTROLS) - named <= {"reader", "validation"}


def test_system_calls_are_known_by_name() -> None:
    assert {each.arguments["name"] for each in CATALOGUE if each.probe == "calls"} <= KNOWN


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (attack(probe="no-such-probe"), "there is no probe 'no-such-probe'"),
        (attack(controls=("hope",)), "there is no control 'hope'"),
        (attack(controls=()), "names no control"),
        (attack(probe=""), "either a probe, or a word"),
        (attack(absent="it is tried elsewhere"), "either a probe, or a word"),
        (attack(granted=(Grant(),)), "grants everything"),
        (attack(granted=(Grant(capability="sys_everything"),)), "knows no capability"),
    ],
)
def test_what_is_wrong_with_a_case_is_told(wrong: Attack, complaint: str) -> None:
    assert [line for line in problems(wrong) if complaint in line]
    assert problems(attack()) == []


def test_an_id_is_there_once() -> None:
    assert problems(attack(), attack()) == ["one: this id is there twice"]


def test_a_case_of_the_sixty_that_is_missing_is_told() -> None:
    assert "case 7 of the sixty is missing" in lint([each for each in CATALOGUE if each.number != 7], probes.ALL, NAMES)


def test_a_file_that_is_no_catalogue_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text('[[attacks]]\nid = "x"\ntitle = "tries something"\nfrom = "nowhere"\n')
    with pytest.raises(ConfigError, match=r"attacks/bad\.toml.*from"):
        read_catalogue(str(tmp_path))


REACH = Reach(
    profile(paths=grants(ro="/proc", rw="/etc", rx="/usr"), capabilities=capabilities("chown")), frozenset({"connect"})
)


@pytest.mark.parametrize(
    ("grant", "words"),
    [
        (Grant(path="/etc/shadow"), "path /etc rw"),
        (Grant(path="/etc/shadow", to="write"), "path /etc rw"),
        (Grant(path="/etcetera"), ""),
        (Grant(path="/proc/1/mem", to="write"), ""),
        (Grant(path="/usr/bin/id", to="run"), "path /usr rx"),
        (Grant(path="/etc/x", to="run"), ""),
        (Grant(path="/proc", to="list"), "path /proc ro"),
        (Grant(path="/proc", to="change"), ""),
        (Grant(path="/etc/x", to="change"), "path /etc rw"),
        (Grant(path="/usr/bin/id", to="run", calls="execve"), ""),
        (Grant(capability="chown"), "capability chown"),
        (Grant(capability="sys_admin"), ""),
        (Grant(calls="connect", shares="mount"), "the host's mount namespace, call connect"),
        (Grant(calls="connect", shares="net"), ""),
        (Grant(family="inet"), ""),
        (Grant(uid=0), ""),
        (Grant(port=80), "port 80"),
        (Grant(view="unsealed"), "the host's view, not sealed"),
    ],
)
def test_a_grant_holds_when_all_of_it_does(grant: Grant, words: str) -> None:
    assert granted_by(REACH, (grant,)) == words


def test_the_first_grant_that_holds_is_named() -> None:
    assert granted_by(REACH, (Grant(capability="kill"), Grant(capability="chown"))) == "capability chown"
    assert granted_by(REACH, ()) == ""


def test_ports_are_those_that_the_policy_names() -> None:
    families = replace(REACH.profile.families, connect_ports=(80,))
    reach = replace(REACH, profile=replace(REACH.profile, families=families))
    assert granted_by(reach, (Grant(port=80),)) == "port 80"
    assert granted_by(reach, (Grant(port=443),)) == ""


def test_nothing_is_held_against_the_spawner() -> None:
    assert granted_by(replace(REACH, profile=replace(REACH.profile, kind="spawner")), ()) == EVERYTHING


def test_only_workers_attack_through_a_channel() -> None:
    channel = attack(origin="channel")
    assert applies_to(channel, REACH.profile)
    assert not applies_to(channel, replace(REACH.profile, module="supervisor.main"))
    assert not applies_to(attack(only="zmq"), REACH.profile)
    assert not applies_to(attack(origin="local user"), REACH.profile)
    assert not applies_to(attack(probe="", absent="it is tried elsewhere"), REACH.profile)


def test_the_document_is_made_from_the_catalogue() -> None:
    assert (PROJECT / "docs/attacks.md").read_text(encoding="utf-8") == attacks_document(CATALOGUE, read_cases())


def test_tests_that_the_catalogue_names_are_there() -> None:
    named = {path.strip() for each in CATALOGUE for path in each.tested.split(",") if path.strip()}
    assert {path for path in named if not (PROJECT / path).exists()} == set()
