# SPDX-License-Identifier: Apache-2.0
"""The table: which worker may send what, when, how often, and with how many descriptors."""

import pytest

from ipc.errors import BadDescriptor, UnpermittedMessage
from ipc.messages import (
    CATALOGUE,
    CreateAccount,
    InputRefused,
    LockRootPassword,
    PlanComplete,
    SetHostName,
    StoreCustomData,
    Versions,
    WorkerReady,
)
from policy.load import own_folder
from policy.reading import read_policy
from policy.sources import read_sources
from supervisor.dispatch import MOST_MESSAGES, PHASES, Phase, Table

PROFILES = [p for p in read_policy(read_sources(own_folder()))[0] if p.kind not in {"supervisor", "spawner"}]
VERSIONS = Versions("1", ())


def table(phase: Phase = "boot") -> Table:
    made = Table(PROFILES)
    made.advance(phase)
    return made


def test_a_permitted_message_passes() -> None:
    table("provisioning").check("parser", VERSIONS, ["WorkerReady"])


@pytest.mark.parametrize("kind", sorted({p.kind for p in PROFILES} - {"parser"}))
def test_nobody_else_sends_what_a_parser_sends(kind: str) -> None:
    for phase in PHASES:
        with pytest.raises(UnpermittedMessage, match=f"not permitted to {kind} in phase {phase}"):
            table(phase).check(kind, VERSIONS, [])


def test_out_of_its_phase_a_message_is_refused() -> None:
    table("provisioning").check("provisioning", SetHostName("vm"), [])
    for phase in ("boot", "steady"):
        with pytest.raises(UnpermittedMessage, match=phase):
            table(phase).check("provisioning", SetHostName("vm"), [])


def test_what_may_be_sent_once_is_refused_the_second_time() -> None:
    with pytest.raises(UnpermittedMessage, match="only once"):
        table("provisioning").check("parser", VERSIONS, ["WorkerReady", "Versions"])
    with pytest.raises(UnpermittedMessage, match="only once"):
        table("provisioning").check("provisioning", PlanComplete(1), ["PlanComplete"])


def test_one_message_mints_the_permit_of_another() -> None:
    table("provisioning").check("provisioning", SetHostName("vm"), ["WorkerReady"])
    for message in (CreateAccount("ann", "/home/ann"), LockRootPassword(), PlanComplete(1)):
        with pytest.raises(UnpermittedMessage, match=f"{type(message).__name__} is permitted .* only after"):
            table("provisioning").check("provisioning", message, ["WorkerReady"])


def test_everybody_may_be_ready_and_refuse_its_input_once() -> None:
    for message in (WorkerReady(), InputRefused("x", "y")):
        for phase in PHASES:
            table(phase).check("hostname", message, [])
            with pytest.raises(UnpermittedMessage):
                table(phase).check("hostname", message, [type(message).__name__])


def test_an_unknown_kind_may_say_nothing_of_use() -> None:
    for name in CATALOGUE:
        if name not in {"WorkerReady", "InputRefused"}:
            assert not [row for row in table()._rows if row[0] == "nobody" and row[1] == name]


def test_a_flood_of_what_is_permitted_is_refused() -> None:
    many = ["ConfigureSshd"] + ["PlaceKeys"] * (MOST_MESSAGES - 1)
    table("provisioning").check("provisioning", LockRootPassword(), many[:-1])
    with pytest.raises(UnpermittedMessage, match=f"more than {MOST_MESSAGES}"):
        table("provisioning").check("provisioning", LockRootPassword(), many)


@pytest.mark.parametrize("count", [0, 2, 4])
def test_descriptors_are_as_many_as_the_message_carries(count: int) -> None:
    steady = table("provisioning")
    steady.check("provisioning", StoreCustomData(1), ["ConfigureSshd"], 1)
    with pytest.raises(BadDescriptor, match=f"StoreCustomData came with {count}"):
        steady.check("provisioning", StoreCustomData(1), ["ConfigureSshd"], count)
    if count:
        with pytest.raises(BadDescriptor):
            steady.check("parser", VERSIONS, [], count)


def test_phases_go_one_way() -> None:
    one = table("provisioning")
    one.advance("provisioning")
    one.advance("steady")
    assert one.phase == "steady"
    for earlier in ("boot", "provisioning"):
        with pytest.raises(ValueError, match="not followed"):
            one.advance(earlier)
