# SPDX-License-Identifier: Apache-2.0
"""Each part of the rule is there for somebody: taken away, what is refused with it gets through."""

from collections.abc import Iterator

import pytest

from ipc.messages import CommitFailed, EgressGuarded
from tests.egress.responder import ADDRESS
from tests.egress.rules_ground import Ground, ground
from tests.jail.mutants import Mutation

pytestmark = pytest.mark.root

REFUSED = "ConnectionRefusedError"
RULES, COMMITTER = "policy.egress.nft", "workers.committers"
CHAINS, FRAMES = "policy.egress.iptables", "policy.egress.ebtables"
NO_OUTPUT = Mutation(RULES, '*_base("output", [*_fragments(rule), *_ways_to("jump leaving")]),', "")
NO_INPUT = Mutation(RULES, 'judged = rule.mode == "enforce" and', "judged = False and")
NO_FORWARD = Mutation(RULES, '*_base("forward", [*_fragments(rule), *_forwarded(rule, logged=logged)]),', "")
NO_BRIDGE = Mutation(RULES, '_base("forward", ways if rule.mode == "enforce" else [])', '_base("forward", [])')
NO_INPUT_CHAIN = Mutation(CHAINS, "    judged = judged and judges_arriving(rule)\n", "    judged = False\n")
NO_FORWARD_CHAIN = Mutation(CHAINS, "*_rules(FORWARDED, _forwarded(rule, logged=logged)),", "")
NO_FRAMES = Mutation(FRAMES, '    if rule.mode != "enforce":\n', "    if rule.mode:\n")
INPUT = {"nft-cgroup": NO_INPUT, "iptables": NO_INPUT_CHAIN}
WAYS_ROUND = {"nft-cgroup": (NO_FORWARD, NO_BRIDGE), "iptables": (NO_FORWARD_CHAIN, NO_FRAMES)}
NO_RESETS = Mutation(RULES, '    yield "tcp flags rst accept"\n', "")
NO_TRIAL = Mutation(f"{COMMITTER}.egress", "    elif reached:\n", "    elif reached and not reached:\n")
NO_END = Mutation(f"{COMMITTER}.egress_connections", '"-KHtn"', '"-Htn"')
# As if it were somebody else's, in the moment after the load.
ANOTHERS_CHANGE = Mutation(
    f"{COMMITTER}.egress_tables",
    "        if outcome.status == 0:\n",
    "        if not outcome.status and tools.run('nft', 'add', 'chain', 'ip', 'agent_supervisor', 'more'):\n",
)
CGROUP_OF_ITS_OWN = {"egress-programs": ('new = ["mount", "uts", "ipc"]', 'new = ["mount", "uts", "ipc", "cgroup"]')}


@pytest.fixture(scope="module")
def place() -> Iterator[Ground]:
    with ground() as place:
        yield place


def loaded(place: Ground, mechanism: str = "nft-cgroup") -> None:
    answer = place.guard(place.rule(mechanism))
    assert isinstance(answer, EgressGuarded), answer


def pending(place: Ground, mechanism: str) -> str:
    """What comes, once the rule is there, on a connection from before it."""
    held = place.popen("tests.egress.outsider", "hold", ADDRESS, "80")
    assert held.stdout.readline().startswith(b"held ")
    loaded(place, mechanism)
    place.outsider("go", port=53)
    return str(held.communicate(b"\n", timeout=20)[0].decode().strip())


def test_a_rule_without_its_output_is_not_taken_for_one_in_force(place: Ground) -> None:
    for without, problem in (((NO_OUTPUT,), "gets no answer"), ((NO_OUTPUT, NO_INPUT), "refuses nobody")):
        with place.rigged(*without):
            answer = place.guard(place.rule("nft-cgroup"))
            assert isinstance(answer, CommitFailed)
            assert problem in answer.problem
    with place.rigged(NO_OUTPUT, NO_INPUT, NO_TRIAL):
        loaded(place)
        assert place.outsider() == "here"
        place.open()


@pytest.mark.parametrize("mechanism", INPUT)
def test_a_pending_reply_is_kept_back_by_the_input_and_by_the_end_of_the_connection(
    mechanism: str, place: Ground
) -> None:
    no_input = INPUT[mechanism]
    for without, outcome in (
        ((no_input, NO_END), "late"),
        ((NO_END,), "TimeoutError"),
        ((no_input,), "ConnectionAbortedError"),
    ):
        with place.rigged(*without):
            assert pending(place, mechanism) == outcome
            place.open()


def test_where_connections_cannot_be_ended_what_arrives_goes_to_nobody(place: Ground) -> None:
    place.shell("mv $(command -v ss) /run/ss")
    with place.rigged():
        assert pending(place, "iptables") == "TimeoutError"
        place.open()
    with place.rigged(NO_INPUT_CHAIN):
        assert pending(place, "iptables") == "late"
        place.open()
    place.shell("mv /run/ss /usr/bin/ss")


@pytest.mark.parametrize("mechanism", WAYS_ROUND)
def test_containers_are_kept_out_by_forward_and_bridge(mechanism: str, place: Ground) -> None:
    with place.rigged(*WAYS_ROUND[mechanism]):
        loaded(place, mechanism)
        assert [place.outsider(net="routed"), place.outsider(net="bridged")] == ["here", "here"]
        place.open()


def test_without_resets_a_refusal_is_a_silence(place: Ground) -> None:
    with place.rigged(NO_RESETS):
        answer = place.guard(place.rule("nft-cgroup"))
        assert isinstance(answer, CommitFailed)
        assert "gets no answer within 1 s" in answer.problem


def test_a_program_in_a_cgroup_namespace_of_its_own_loads_what_matches_nothing(place: Ground) -> None:
    with place.rigged(**CGROUP_OF_ITS_OWN):
        loaded(place)
        assert place.reach() == REFUSED
        place.open()


def test_a_change_between_load_and_watch_is_not_read_off_unseen(place: Ground) -> None:
    with place.rigged(ANOTHERS_CHANGE):
        answer = place.guard(place.rule("nft-cgroup"))
        assert isinstance(answer, EgressGuarded)
        assert answer.disturbed
        assert "was changed 2 times while it was loaded, not 1" in answer.fact
