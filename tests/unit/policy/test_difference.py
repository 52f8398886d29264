# SPDX-License-Identifier: Apache-2.0
"""Every change of a policy is told once, with its sign and with what it means."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec.structs import replace

from ipc.errors import ConfigError
from policy.compile import main as compile_main
from policy.difference import difference
from policy.edition import Edition, edition_of, read_edition
from policy.load import own_folder
from policy.profile import Capability, Families, PathGrant, Profile, Program, Request
from policy.reading import read_policy
from policy.sources import read_sources

SOURCES = read_sources(own_folder())
WHY = "what the test is about"
# A call that no policy of ours names.
CALL = "sched_rr_get_interval"
OPPOSITE = {"loosens": "tightens", "tightens": "loosens", "changes": "changes"}


@pytest.fixture(scope="module")
def shipped() -> Edition:
    return edition_of(*read_policy(SOURCES))


def changed(shipped: Edition, kind: str, **parts: object) -> Edition:
    """The edition with another profile of `kind`."""
    profiles = {**shipped.profiles, kind: replace(shipped.profiles[kind], **parts)}
    return edition_of(profiles.values(), shipped.groups)


class Case(NamedTuple):
    """What is put in the parser's profile; the key under which that is told, how, and what it means."""

    parts: Callable[[Profile], dict[str, object]]
    key: str
    told: list[str]
    effect: str


def with_path(*grants: PathGrant) -> Callable[[Profile], dict[str, object]]:
    return lambda profile: {"paths": (*profile.paths, *grants)}


CASES = {
    "a namespace less": Case(
        lambda one: {"namespaces": replace(one.namespaces, new=("mount", "ipc"))},
        "namespaces", ["- uts", "- net", "- cgroup", "- pid", "- user"], "loosens",
    ),
    "a limit": Case(
        lambda one: {"limits": replace(one.limits, pids=one.limits.pids + 1)},
        "limits", ["- pids {limits.pids}", "+ pids {limits.pids+1}"], "loosens",
    ),
    "a shorter life": Case(
        lambda one: {"lifetime": replace(one.lifetime, deadline_s=0.5)},
        "lifetime", ["- deadline_s {lifetime.deadline_s}", "+ deadline_s 0.5"], "tightens",
    ),
    "a capability more": Case(
        lambda _: {"capabilities": (Capability("syslog", WHY),)}, "capabilities", ["+ syslog"], "loosens"
    ),
    "a descriptor more": Case(
        lambda one: {"descriptors": replace(one.descriptors, types=(*one.descriptors.types, "inotify"))},
        "descriptors", ["+ inotify"], "loosens",
    ),
    "another view": Case(lambda _: {"view": "host"}, "process", ["- view own", "+ view host"], "changes"),
    "a path": Case(with_path(PathGrant("/srv/x", "ro", WHY)), "paths", ["+ /srv/x ro"], "loosens"),
    "a folder hidden": Case(lambda _: {"hidden": ("/srv",)}, "hidden", ["+ /srv"], "tightens"),
    "a program": Case(lambda _: {"runs": (Program("true", WHY),)}, "runs", ["+ true"], "loosens"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_change_is_told_with_what_it_means(shipped: Edition, name: str) -> None:
    case, before = CASES[name], shipped.profiles["parser"]
    other = changed(shipped, "parser", **case.parts(before))
    found = difference(shipped, other)
    words = {"{limits.pids}": before.limits.pids, "{limits.pids+1}": before.limits.pids + 1}
    words["{lifetime.deadline_s}"] = before.lifetime.deadline_s  # type: ignore[assignment]
    told = [re.sub(r"{.*}", lambda found: str(words[found[0]]), text) for text in case.told]
    assert [f"{change.sign} {change.what}" for change in found if change.key == case.key] == told
    # Another view is other reach at its paths, too.
    assert {change.key for change in found} - {"paths"} <= {case.key}
    assert {(change.kind, change.effect) for change in found if change.key == case.key} == {("parser", case.effect)}
    assert all(change.why for change in found)
    back = difference(other, shipped)
    assert sorted((change.what, change.effect) for change in back) == sorted(
        (change.what, OPPOSITE[change.effect]) for change in found
    )


def test_a_path_with_another_access_and_a_request_more_often(shipped: Edition) -> None:
    one = changed(shipped, "parser", paths=(PathGrant("/srv/x", "ro", WHY),))
    other = changed(shipped, "parser", paths=(PathGrant("/srv/x", "rw", WHY),))
    assert [(change.sign, change.what, change.effect) for change in difference(one, other)] == [
        ("-", "/srv/x ro", "loosens"),
        ("+", "/srv/x rw", "loosens"),
    ]
    one = changed(shipped, "parser", requests=(Request("Ovf", "boot", WHY, once=True, after="Versions"),))
    other = changed(shipped, "parser", requests=(Request("Ovf", "boot", WHY, after="Versions"),))
    assert [(change.sign, change.what, change.effect) for change in difference(one, other)] == [
        ("-", "Ovf in boot (once, after Versions)", "loosens"),
        ("+", "Ovf in boot (after Versions)", "loosens"),
    ]


def test_ports_are_a_limit_and_none_named_is_none(shipped: Edition) -> None:
    families = Families(("inet",), WHY, (80,))
    some = changed(shipped, "parser", families=families)
    every = changed(shipped, "parser", families=replace(families, connect_ports=()))
    assert [(change.sign, change.what, change.effect) for change in difference(some, every)] == [
        ("-", "TCP ports 80", "loosens"),
        ("+", "TCP ports any", "loosens"),
    ]


def test_a_family_more_is_a_call_more_as_well(shipped: Edition) -> None:
    found = difference(shipped, changed(shipped, "vault", families=Families(("unix",), WHY)))
    rule = "socket where argument 0 & 0xffffffff is 0x1"
    assert [(change.key, change.sign, change.what, change.effect) for change in found] == [
        ("families", "+", "unix", "loosens"),
        ("startup_calls", "+", rule, "loosens"),
        ("locked_calls", "+", rule, "loosens"),
    ]


def test_a_call_more_and_one_judged_less_strictly(shipped: Edition) -> None:
    memory, answered = shipped.groups["memory"], shipped.groups["no-files"]
    groups = {
        **shipped.groups,
        "memory": replace(memory, only=tuple(replace(each, values=(*each.values, 4)) for each in memory.only)),
        "no-files": replace(answered, names=(*answered.names, CALL)),
    }
    found = difference(shipped, edition_of(shipped.profiles.values(), groups))
    locked = [change for change in found if change.kind == "parser" and change.key == "locked_calls"]
    either = "where argument 2 & 0x4 is 0x0 or argument 2 & 0x4 is 0x4"
    assert [(change.sign, change.what, change.effect) for change in locked] == [
        ("-", "mmap where argument 2 & 0x4 is 0x0", "loosens"),
        ("+", f"mmap {either}", "loosens"),
        ("-", "mprotect where argument 2 & 0x4 is 0x0", "loosens"),
        ("+", f"mprotect {either}", "loosens"),
        ("+", CALL, "loosens"),
    ]
    assert locked[-1].why == answered.why


def test_a_kind_that_came_or_went(shipped: Edition) -> None:
    fewer = edition_of(*read_policy({name: text for name, text in SOURCES.items() if name != "profiles/parser.toml"}))
    went, came = difference(shipped, fewer), difference(fewer, shipped)
    assert [(change.sign, change.what, change.effect) for change in went if change.kind == "parser"] == [
        ("-", "parser", "tightens")
    ]
    assert [(change.sign, change.what, change.effect) for change in came if change.kind == "parser"] == [
        ("+", "parser", "loosens")
    ]


def test_another_text_is_no_difference(shipped: Edition) -> None:
    identity = replace(shipped.profiles["parser"].identity, why="Said in other words, but the same.")
    assert difference(shipped, changed(shipped, "parser", identity=identity)) == []


def test_a_compiled_policy_is_the_one_that_it_was_made_from(shipped: Edition, tmp_path: Path) -> None:
    more = SOURCES["calls/runtime.toml"].replace(b"names = [", f'names = ["{CALL}", '.encode(), 1)
    for name, sources in (("one", SOURCES), ("two", {**SOURCES, "calls/runtime.toml": more})):
        for path, content in sources.items():
            file = tmp_path / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        assert compile_main(["--folder", str(tmp_path / name), "--output", str(tmp_path / f"{name}.bin")]) == 0
    one, two = read_edition(tmp_path / "one.bin"), read_edition(tmp_path / "two.bin")
    assert difference(shipped, one) == []
    assert difference(one, shipped) == []
    assert ("parser", "locked_calls", "+", CALL, "loosens") in [
        (change.kind, change.key, change.sign, change.what, change.effect) for change in difference(one, two)
    ]


def test_what_is_no_edition_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has neither calls and profiles nor a compiled"):
        read_edition(tmp_path)
    (tmp_path / "compiled.bin").write_bytes(b"\xc1")
    with pytest.raises(ConfigError, match="is no compiled policy"):
        read_edition(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_edition(tmp_path / "nothing")
