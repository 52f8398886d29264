# SPDX-License-Identifier: Apache-2.0
"""Which goal state wins (hostga-plugin.md 6), what of it is outdated, and what it lacks."""

import itertools
from typing import Any

import pytest
from msgspec.structs import replace

from ipc.messages import ExtensionSettings, Plugin
from ipc.messages.host_documents import EARLIEST
from supervisor.goal_state.adopted import Adopted
from supervisor.goal_state.choice import choose, is_outdated, unknown_thumbprints, unsupported
from supervisor.goal_state.documents import NO_EXTENSIONS

OLD, NEW = "2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:00.000001Z"
GOAL_STATE = replace(NO_EXTENSIONS, created=OLD, in_svd_sequence_number="7")


def wire(created: str, number: int = 1) -> Adopted:
    return Adopted(f"incarnation_{number}", "Fabric", str(number), "", replace(GOAL_STATE, created=created), 1.0)


def settings(created: str, etag: str = "5") -> Adopted:
    return Adopted(f"etag_{etag}", "FastTrack", "1", etag, replace(GOAL_STATE, created=created), 1.0)


@pytest.mark.parametrize(
    ("current", "sent", "held", "held_is_new", "expected"),
    [
        (None, wire(OLD), None, False, "incarnation_1"),
        (None, None, None, False, None),
        (None, wire(OLD), settings(NEW), True, "etag_5"),
        (None, wire(OLD), settings(NEW), False, "etag_5"),
        (None, wire(NEW), settings(OLD), True, "incarnation_1"),
        (None, wire(OLD), settings(OLD), True, "incarnation_1"),
        (wire(OLD), None, settings(NEW), True, "etag_5"),
        (wire(OLD), None, settings(NEW), False, None),
        (wire(NEW), None, settings(OLD), True, None),
        (settings(NEW), wire(OLD, 2), None, False, None),
        (settings(OLD), wire(OLD, 2), None, False, "incarnation_2"),
        (settings(NEW), wire(OLD, 2), settings(NEW), False, "etag_5"),
        (wire(EARLIEST), wire(EARLIEST, 2), None, False, "incarnation_2"),
        (wire(OLD), wire(EARLIEST, 2), None, False, "incarnation_2"),
        (settings(NEW), None, settings(OLD, "6"), True, "etag_6"),
        (wire(NEW), wire(OLD, 2), settings(NEW), False, "etag_5"),
    ],
)
def test_the_later_one_wins(
    current: Adopted | None, sent: Adopted | None, held: Adopted | None, held_is_new: bool, expected: str | None
) -> None:
    chosen = choose(current, sent, held, settings_are_new=held_is_new)
    assert (chosen.id if chosen is not None else None) == expected


def test_an_older_one_never_replaces_a_newer_one_of_the_other_source() -> None:
    times = (EARLIEST, OLD, NEW)
    some: tuple[Any, ...] = (None, *times)
    for now, sent, held, is_new in itertools.product(some, some, some, (True, False)):
        current = wire(now) if now else None
        chosen = choose(
            current, wire(sent, 2) if sent else None, settings(held) if held else None, settings_are_new=is_new
        )
        if chosen is None:
            continue
        assert now is None or not chosen.etag or chosen.goal_state.created >= now
        assert sent is None or chosen.goal_state.created >= sent


def test_what_fast_track_has_brought_outlives_its_support() -> None:
    assert is_outdated(OLD, NEW, settings_count=False)
    assert not is_outdated(OLD, NEW, settings_count=True)
    assert not is_outdated(NEW, NEW, settings_count=False)
    assert not is_outdated(OLD, "", settings_count=False)


def test_thumbprints_and_features_that_nobody_has() -> None:
    def extension(thumbprint: str) -> ExtensionSettings:
        return ExtensionSettings("", 1, "enabled", 0, thumbprint)

    named = ("A" * 40, "B" * 40, "", "B" * 40)
    plugins = tuple(Plugin(f"P.{one[:1]}", "1", "enabled", False, (), False, (extension(one),)) for one in named)
    goal_state = replace(GOAL_STATE, plugins=plugins, required_features=("X", "FastTrack", "X"))
    assert unknown_thumbprints(goal_state, {"A" * 40}) == ("B" * 40,)
    assert unknown_thumbprints(goal_state, {"A" * 40, "B" * 40}) == ()
    assert unsupported(goal_state, ("FastTrack",)) == ("X",)
