# SPDX-License-Identifier: Apache-2.0
"""Whatever makes a policy wider is found, in whatever company; what only makes it tighter never is."""

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipc.records import MECHANISMS
from policy import profile as shapes
from policy.capability import NAMES
from policy.level import LEVELS, level_of, required
from policy.load import own_folder
from policy.path_reach import RIGHTS, covers
from policy.profile import Capability, PathGrant, Profile, Program, Request
from policy.reach import loosenings
from policy.reading import read_policy
from policy.sources import read_sources

WHY = "Because a test says so."
PROFILES, GROUPS = read_policy(read_sources(own_folder()))
KINDS = {profile.kind: profile for profile in PROFILES}

Draw = Callable[[st.SearchStrategy[Any]], Any]
replace = msgspec.structs.replace


def some(draw: Draw, things: Sequence[Any]) -> tuple[Any, ...]:
    """A few of them, in their order."""
    return tuple(thing for thing in things if draw(st.booleans()))


def narrower(draw: Draw, profile: Profile) -> Profile:
    """The profile with things taken away, of every sort that there is."""
    limits = {
        field: draw(st.integers(8, getattr(profile.limits, field)))
        for field in ("memory_mib", "open_files")
        if getattr(profile.limits, field) > 8
    }
    gone = [name for name in ("mmap", "read", "sendmsg", "memfd_create", "openat") if draw(st.booleans())]
    return replace(
        profile,
        capabilities=some(draw, profile.capabilities),
        runs=some(draw, profile.runs),
        requests=tuple(replace(row, once=True) for row in some(draw, profile.requests)),
        families=replace(profile.families, names=some(draw, profile.families.names)),
        limits=replace(profile.limits, **limits),
        hidden=(*profile.hidden, *some(draw, ("/srv", "/opt"))),
        startup_calls=replace(profile.startup_calls, without=(*profile.startup_calls.without, *gone)),
        locked_calls=replace(profile.locked_calls, without=(*profile.locked_calls.without, *gone)),
        paths=_narrower_paths(draw, profile),
    )


def _narrower_paths(draw: Draw, profile: Profile) -> tuple[PathGrant, ...]:
    """In the host's view any grant may go. In one of its own a narrower mount may lie on a wider one: it stays."""
    if profile.view == "own":
        return profile.paths
    kept = some(draw, profile.paths)
    part = [
        replace(grant, path=f"{grant.path.rstrip('/')}/part", access="remove") for grant in kept if grant.access == "rw"
    ]
    return (*kept, *some(draw, part))


def _more_limits(draw: Draw, profile: Profile) -> Profile:
    field = draw(st.sampled_from([name for name in profile.limits.__struct_fields__ if name != "why"]))
    more = getattr(KINDS[profile.kind].limits, field) + draw(st.integers(1, 1000))
    return replace(profile, limits=replace(profile.limits, **{field: more}))


def _capability(draw: Draw, profile: Profile) -> Profile:
    name = draw(st.sampled_from(sorted(set(NAMES) - KINDS[profile.kind].start_capability_names)))
    return replace(profile, capabilities=(*profile.capabilities, Capability(name, WHY)))


def _start_capability(draw: Draw, profile: Profile) -> Profile:
    name = draw(st.sampled_from(sorted(set(NAMES) - KINDS[profile.kind].start_capability_names)))
    return replace(profile, start_capabilities=(*profile.start_capabilities, Capability(name, WHY)))


def _path(draw: Draw, profile: Profile) -> Profile:
    path = draw(
        st.sampled_from(["/root", "/boot/x", "/proc/sys", "/etc/ssh", "/usr/lib/x", "/run/systemd", "/dev/sda"])
    )
    if any(grant.access == "tools" and covers(grant.path, path) for grant in KINDS[profile.kind].paths):
        return _capability(draw, profile)
    # `tools` is more than any other access.
    return replace(profile, paths=(*profile.paths, PathGrant(path, "tools", WHY)))


def _host_namespace(draw: Draw, profile: Profile) -> Profile:
    gone = draw(st.sampled_from(profile.namespaces.new))
    new = tuple(name for name in profile.namespaces.new if name != gone)
    return replace(profile, namespaces=replace(profile.namespaces, new=new))


def _request(draw: Draw, profile: Profile) -> Profile:
    message = draw(st.sampled_from(["Ovf", "CreateAccount", "Nonsense"]))
    phase = draw(st.sampled_from(["boot", "provisioning", "steady"]))
    before = {(row.message, row.phase) for row in KINDS[profile.kind].requests}
    if (message, phase) in before:
        message = "Unheard"
    return replace(profile, requests=(*profile.requests, Request(message, phase, WHY)))


def _call(draw: Draw, profile: Profile) -> Profile:
    # No kind may reboot or load a module, at any time.
    name = draw(st.sampled_from(["reboot", "init_module", "kexec_load", "bpf"]))
    stage = draw(st.sampled_from(["startup_calls", "locked_calls"]))
    calls = getattr(profile, stage)
    return replace(profile, **{stage: replace(calls, names=(*calls.names, name))})


def _program(draw: Draw, profile: Profile) -> Profile:
    return replace(profile, runs=(*profile.runs, Program(draw(st.sampled_from(["sh", "mount", "python3"])), WHY)))


def _unlocked(draw: Draw, profile: Profile) -> Profile:
    """Another value for what is neither wider nor narrower."""
    field, value = draw(
        st.sampled_from(
            [
                ("module", "workers.other"),
                ("view", "host" if profile.view == "own" else "own"),
                ("start", "exec" if profile.start == "fork" else "fork"),
                ("transport", "zmq" if profile.transport == "packet" else "packet"),
                ("identity", replace(profile.identity, uid=61000)),
                ("lifetime", replace(profile.lifetime, deadline_s=profile.lifetime.deadline_s + 1)),
                ("lifetime", replace(profile.lifetime, instances=KINDS[profile.kind].lifetime.instances + 1)),
                ("lifetime", replace(profile.lifetime, jobs=KINDS[profile.kind].lifetime.jobs + 1)),
                ("preload", (*profile.preload, "os")),
                ("programs", "other-programs"),
            ]
        )
    )
    return replace(profile, **{field: value})


WIDENINGS = (
    _more_limits, _capability, _start_capability, _path, _host_namespace, _request, _call, _program, _unlocked,
)  # fmt: skip


def compared(profile: Profile) -> list[str]:
    """With what is shipped of that kind; one kind alone, which is quicker."""
    return loosenings([KINDS[profile.kind]], [profile], GROUPS)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(sorted(KINDS)))
def test_taking_away_is_never_a_loosening(data: st.DataObject, kind: str) -> None:
    assert compared(narrower(data.draw, KINDS[kind])) == []


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(sorted(KINDS)), st.sampled_from(WIDENINGS))
def test_one_thing_added_is_found_whatever_else_is_taken_away(data: st.DataObject, kind: str, widen: Any) -> None:
    if widen is _host_namespace and not KINDS[kind].namespaces.new:
        return
    tight = narrower(data.draw, KINDS[kind])
    assert compared(widen(data.draw, tight)) != []


ACCESSES = st.sampled_from(sorted(RIGHTS))
PATHS = st.sampled_from(["/", "/a", "/a/b", "/a/b/c", "/ab", "/run", "/run/x", "/d/e"])
GRANTS = st.lists(st.tuples(PATHS, ACCESSES), max_size=4, unique_by=lambda grant: grant[0])


def reached(grants: Sequence[PathGrant], view: str, path: str) -> set[str]:
    """What can be done at `path`, told in another way than the code that is judged: prefix by prefix, from the root."""
    parts = path.strip("/").split("/") if path != "/" else []
    prefixes = ["/", *("/" + "/".join(parts[: count + 1]) for count in range(len(parts)))]
    found: set[str] = set()
    for prefix in prefixes:
        for grant in grants:
            if grant.path == prefix:
                seen = view == "own" or not path.startswith("/run") or prefix.startswith("/run")
                seen = seen or grant.access in {"rw", "tools", "remove"}
                here = set(RIGHTS[grant.access]) if seen else set()
                found = here if view == "own" else found | here
    return found


@settings(max_examples=250, deadline=None)
@given(GRANTS, GRANTS, st.sampled_from(["own", "host"]))
def test_paths_are_wider_exactly_where_more_can_be_done(
    before: list[tuple[str, Any]], after: list[tuple[str, Any]], view: Any
) -> None:
    first, second = (tuple(PathGrant(path, access, WHY) for path, access in grants) for grants in (before, after))
    base = replace(KINDS["hostname"], view=view)
    pair = replace(base, paths=first), replace(base, paths=second)
    places = [
        "/",
        "/a",
        "/a/b",
        "/a/b/c",
        "/a/b/c/deep",
        "/a/x",
        "/ab",
        "/run",
        "/run/x",
        "/run/x/y",
        "/run/z",
        "/d/e",
        "/q",
    ]
    more = any(reached(second, view, place) - reached(first, view, place) for place in places)
    assert bool(loosenings([pair[0]], [pair[1]], GROUPS)) == more


def test_a_wider_mount_that_comes_to_light_is_found() -> None:
    own = replace(KINDS["vault"], paths=(PathGrant("/a", "rw", WHY), PathGrant("/a/b", "ro", WHY)))
    assert loosenings([own], [replace(own, paths=own.paths[:1])], GROUPS) == ["vault: paths: /a/b: remove, write"]
    hidden = replace(KINDS["vault"], paths=(PathGrant("/usr/lib", "rx", WHY), PathGrant("${project}", "ro", WHY)))
    assert loosenings([hidden], [replace(hidden, paths=hidden.paths[:1])], GROUPS) == [
        "vault: paths: ${project}: execute"
    ]


def test_a_kind_that_nobody_ships_is_found() -> None:
    other = replace(KINDS["parser"], kind="stranger")
    assert loosenings(PROFILES, (*PROFILES, other), GROUPS) == ["stranger: no such kind of process is shipped"]


KNOWN_FIELDS = {
    "PathGrant": {"path", "access", "why", "until"},
    "Calls": {"groups", "names", "why", "otherwise", "children", "without"},
    "Families": {"names", "why", "connect_ports", "handed"},
    "Request": {"message", "phase", "why", "once", "after"},
    "Lifetime": {"kind", "deadline_s", "instances", "jobs", "why"},
    "Capability": {"name", "why"},
    "Program": {"name", "why"},
    "Descriptors": {"types", "why"},
    "Namespaces": {"new", "why"},
}


@pytest.mark.parametrize("name", KNOWN_FIELDS)
def test_no_part_of_a_profile_has_a_field_that_nobody_compares(name: str) -> None:
    assert set(getattr(shapes, name).__struct_fields__) == KNOWN_FIELDS[name]


@given(st.sets(st.sampled_from(MECHANISMS)))
def test_a_machine_is_of_a_level_exactly_when_it_lacks_nothing_required_for_it(missing: set[str]) -> None:
    level = level_of(missing)
    assert set(required(level)) & missing == set()
    for higher in LEVELS[LEVELS.index(level) + 1 :]:
        assert set(required(higher)) & missing
