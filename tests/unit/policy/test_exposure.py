# SPDX-License-Identifier: Apache-2.0
"""The exposure index: 100 for who may do all, less for who may do less; no single weight makes the ranking."""

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ipc.messages import CATALOGUE
from policy.capability import NAMES
from policy.edition import edition_of
from policy.exposure import Reach, index, reach_of, read_weights, sensitivity, total
from policy.installed import facts, here
from policy.load import own_folder
from policy.reading import read_policy
from policy.sources import read_sources

WEIGHTS = read_weights()
LISTS = ("capabilities", "network", "writing", "secrets", "requests")
ALL = Reach(True, 1.0, 1.0, True, *(frozenset(getattr(WEIGHTS, name)) for name in LISTS))
NOTHING = Reach(False, 0.0, 0.0, False, *(frozenset[str]() for _ in LISTS))
REACHES = {
    kind: reach_of(each, WEIGHTS)
    for kind, each in facts(here(edition_of(*read_policy(read_sources(own_folder()))), "/var/lib/waagent")).items()
}


def some(name: str) -> st.SearchStrategy[frozenset[str]]:
    return st.frozensets(st.sampled_from(sorted(getattr(WEIGHTS, name))))


reaches = st.builds(Reach, st.booleans(), st.floats(0, 1), st.floats(0, 1), st.booleans(), *map(some, LISTS))


def test_the_weights_are_whole() -> None:
    assert sum(WEIGHTS.parts.values()) == 100
    assert set(WEIGHTS.capabilities) == set(NAMES)
    assert set(WEIGHTS.parts) == set(index(ALL, WEIGHTS))
    assert set(WEIGHTS.requests) <= set(CATALOGUE)
    assert all(value > 0 for name in ("parts", *LISTS) for value in getattr(WEIGHTS, name).values())


def test_the_two_ends() -> None:
    assert round(total(ALL, WEIGHTS), 6) == 100
    assert total(NOTHING, WEIGHTS) == 0


@settings(max_examples=60, deadline=None)
@given(reaches, reaches)
def test_who_may_do_more_is_never_less_exposed(one: Reach, other: Reach) -> None:
    both = Reach(
        one.root or other.root,
        max(one.calls, other.calls),
        max(one.shared, other.shared),
        one.programs or other.programs,
        *(getattr(one, name) | getattr(other, name) for name in LISTS),
    )
    assert 0 <= total(one, WEIGHTS) <= total(both, WEIGHTS) + 1e-9 <= 100 + 1e-6


def test_who_parses_is_least_exposed_and_the_spawner_most() -> None:
    order = sorted(REACHES, key=lambda kind: total(REACHES[kind], WEIGHTS))
    assert {"parser", "provisioning", "vault", "opener", "unpacker"} <= set(order[:9])
    assert order[-1] == "spawner"
    assert total(REACHES["supervisor"], WEIGHTS) < total(REACHES["spawner"], WEIGHTS) * 2 / 3
    assert REACHES["supervisor"].network >= {"ports"}
    assert "internet" not in REACHES["supervisor"].network
    assert REACHES["verifier"].secrets == {"memory"}


def test_no_single_weight_makes_the_ranking() -> None:
    pairs = len(REACHES) * (len(REACHES) - 1) // 2
    shifts = sensitivity(REACHES, WEIGHTS)
    assert max(len(shift.pairs) for shift in shifts) < pairs / 20
    first = shifts[0]
    part, name = first.weight.split(".")
    table = {**getattr(WEIGHTS, part), name: getattr(WEIGHTS, part)[name] * first.factor}
    if part == "parts":
        table = {key: 100 * value / sum(table.values()) for key, value in table.items()}
    changed = replace(WEIGHTS, **{part: table})
    lower, higher = first.pairs[0]
    assert total(REACHES[lower], WEIGHTS) < total(REACHES[higher], WEIGHTS)
    assert total(REACHES[lower], changed) > total(REACHES[higher], changed)
