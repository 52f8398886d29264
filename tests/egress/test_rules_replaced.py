# SPDX-License-Identifier: Apache-2.0
"""The rule's committer beside others: what they left, what fails, who is in its place, who changes it."""

from collections.abc import Iterator

import pytest

from ipc.messages import CommitFailed, Committed, EgressGuarded
from policy.egress import CANARY, CANARY_PORT
from tests.egress.responder import ADDRESS
from tests.egress.rules_ground import Ground, ground

pytestmark = pytest.mark.root

REFUSED = "ConnectionRefusedError"
TABLE = "walinuxagent"
FORMER = f"""
nft -f - <<END
table ip {TABLE} {{
    chain output {{
        type filter hook output priority 0; policy accept;
        ip daddr {ADDRESS} tcp dport != 53 meta skuid != 0 ct state invalid,new counter drop
    }}
}}
END
add() {{ iptables -w -t security -A OUTPUT -d {ADDRESS} -p tcp "$@"; }}
add --dport 53 -j ACCEPT
add -m owner --uid-owner 0 -j ACCEPT
add -m conntrack --ctstate INVALID,NEW -j ACCEPT
add -m conntrack --ctstate INVALID,NEW -j DROP
iptables -w -t security -A OUTPUT -d {ADDRESS} -p tcp --dport 99 -j ACCEPT
"""
# A container that sends what is for the canary to this machine.
ROUTED_LOOPBACK = f"""
set -e
at() {{ nsenter --net=/run/nets/routed "$@"; }}
at ip addr flush dev lo
at unshare --mount sh -c 'mount -t proc proc /mnt && echo 1 >/mnt/sys/net/ipv4/conf/all/route_localnet'
at ip route replace {CANARY}/32 via 10.77.1.1
"""
OPENED = {
    "nft-cgroup": "nft flush chain ip agent_supervisor input",
    "iptables": "iptables -w -F INPUT",
}
ALL_RULES = "nft list ruleset; iptables -S; iptables -t security -S"


@pytest.fixture(scope="module")
def place() -> Iterator[Ground]:
    with ground() as place, place.rigged():
        yield place


@pytest.fixture
def clean(place: Ground) -> Iterator[Ground]:
    yield place
    assert isinstance(place.open(), Committed)


@pytest.mark.parametrize("mechanism", ["nft-cgroup", "iptables"])
def test_what_another_agent_left_goes_when_it_is_said_and_nothing_else(mechanism: str, clean: Ground) -> None:
    clean.shell(FORMER)
    assert isinstance(clean.guard(clean.rule(mechanism)), EgressGuarded)
    assert TABLE in clean.shell(ALL_RULES)
    answer = clean.guard(clean.rule(mechanism), leftovers=True)
    assert isinstance(answer, EgressGuarded), answer
    assert "4 rules of another agent were removed from iptables" in answer.fact
    assert "the table of another agent was removed" in answer.fact
    left = clean.shell(ALL_RULES)
    assert TABLE not in left
    assert [line for line in left.splitlines() if line.startswith("-A OUTPUT") and "AGENT" not in line] == [
        f"-A OUTPUT -d {ADDRESS}/32 -p tcp -m tcp --dport 99 -j ACCEPT"
    ]
    clean.shell("iptables -w -t security -F OUTPUT")
    again = clean.guard(clean.rule(mechanism), leftovers=True)
    assert isinstance(again, EgressGuarded), again
    assert "another agent" not in again.fact


def test_a_load_that_fails_leaves_what_was_there(clean: Ground) -> None:
    clean.guard(clean.rule("nft-cgroup"))
    before = clean.shell(ALL_RULES)
    answer = clean.guard(clean.rule("nft-cgroup", cgroup="no/such/group"))
    assert isinstance(answer, CommitFailed)
    assert not answer.changed
    assert "nft does not load the rule, nothing was changed" in answer.problem
    assert "cgroup" in answer.problem
    assert clean.shell(ALL_RULES) == before
    assert clean.outsider() == REFUSED


def test_a_rule_that_refuses_nobody_is_taken_away_and_told(clean: Ground) -> None:
    """The committer's own cgroup is within what this one admits."""
    answer = clean.guard(clean.rule("nft-cgroup", cgroup="agent"))
    assert isinstance(answer, CommitFailed)
    assert answer.changed
    assert "refuses nobody: an outsider got through; the rule was taken away again" in answer.problem
    assert "agent_supervisor" not in clean.shell(ALL_RULES)


@pytest.mark.parametrize(("mechanism", "program"), [("nft-cgroup", "nft"), ("iptables", "iptables")])
def test_a_machine_without_the_program_says_so(mechanism: str, program: str, place: Ground) -> None:
    place.shell(f"mv /usr/sbin/{program} /usr/sbin/{program}.gone")
    answer = place.guard(place.rule(mechanism))
    place.shell(f"mv /usr/sbin/{program}.gone /usr/sbin/{program}")
    assert isinstance(answer, CommitFailed)
    assert answer.problem == f"program {program} is not installed"
    assert not answer.changed


def test_one_mechanism_takes_the_place_of_another(clean: Ground) -> None:
    clean.guard(clean.rule("iptables"))
    answer = clean.guard(clean.rule("nft-cgroup"), leftovers=True)
    assert isinstance(answer, EgressGuarded)
    assert "our chains of iptables were removed" in answer.fact
    assert "AGENT-SUPERVISOR" not in clean.shell(ALL_RULES)
    clean.guard(clean.rule("iptables"))
    assert "agent_supervisor" not in clean.shell(ALL_RULES)
    assert clean.outsider() == REFUSED


@pytest.mark.parametrize("mechanism", ["nft-cgroup", "iptables"])
def test_where_root_listens_in_the_canarys_place_the_rule_stays_untried(mechanism: str, clean: Ground) -> None:
    squatter = clean.popen("tests.egress.outsider", "listen", "0.0.0.0", str(CANARY_PORT))
    assert squatter.stdout.readline() == b"listening\n"
    answer = clean.guard(clean.rule(mechanism))
    assert isinstance(answer, EgressGuarded), answer
    assert answer.untried == f"nobody can listen at {CANARY}:{CANARY_PORT} (Address already in use)"
    assert clean.outsider() == REFUSED
    clean.open()
    # Whom the rule lets through shows all the same that it is wrong.
    admitting = clean.guard(clean.rule("nft-cgroup", cgroup="agent"))
    squatter.communicate(b"\n", timeout=20)
    assert isinstance(admitting, CommitFailed)
    assert "refuses nobody: an outsider got through; the rule was taken away again" in admitting.problem


@pytest.mark.parametrize("mechanism", OPENED)
def test_no_container_reaches_the_canary_though_loopback_addresses_are_routed(mechanism: str, clean: Ground) -> None:
    clean.shell(ROUTED_LOOPBACK)
    clean.set("ipv4/conf/all/route_localnet", 1)
    assert isinstance(clean.guard(clean.rule(mechanism)), EgressGuarded)
    assert clean.at_canary() == "TimeoutError"
    clean.shell(OPENED[mechanism])
    assert clean.at_canary() == "held"
    clean.set("ipv4/conf/all/route_localnet", 0)


@pytest.mark.parametrize("mechanism", ["nft-uid", "iptables"])
def test_where_no_socket_is_found_early_only_what_leaves_is_judged(mechanism: str, clean: Ground) -> None:
    clean.set("ipv4/tcp_early_demux", 0)
    answer = clean.guard(clean.rule(mechanism))
    reached = clean.reach(by_uid=True)
    clean.set("ipv4/tcp_early_demux", 1)
    assert isinstance(answer, EgressGuarded)
    assert "packets that arrive are not judged" in answer.lacking
    assert (reached, clean.outsider()) == ("here", REFUSED)
    judging = clean.guard(clean.rule(mechanism))
    clean.set("ipv4/tcp_early_demux", 0)
    assert clean.reach(by_uid=True) == "TimeoutError"
    clean.set("ipv4/tcp_early_demux", 1)
    assert judging.lacking == ""  # type: ignore[attr-defined]


def test_iptables_says_what_it_cannot_do_here(clean: Ground) -> None:
    clean.shell("mv /usr/sbin/ebtables /usr/sbin/ebtables.gone")
    answer = clean.guard(clean.rule("iptables", cgroup="no/such/group"))
    bridged = clean.outsider(net="bridged")
    clean.shell("mv /usr/sbin/ebtables.gone /usr/sbin/ebtables")
    assert isinstance(answer, EgressGuarded), answer
    assert "packets that arrive are not judged, only those that leave: connections held from before" in answer.lacking
    assert "what is bridged past this machine is not judged (program ebtables is not installed)" in answer.lacking
    assert (clean.reach(by_uid=True), clean.outsider(), bridged) == ("here", REFUSED, "here")


def test_the_watch_hears_others_and_not_the_load_itself(clean: Ground) -> None:
    assert clean.rig is not None
    for change in ("flush table ip agent_supervisor", "delete table bridge agent_supervisor", "flush ruleset"):
        clean.guard(clean.rule("nft-cgroup"))
        assert clean.rig.ask("heard")["heard"] == 0
        clean.shell(f"nft {change}")
        assert clean.rig.ask("heard")["heard"] > 0
    for change in ("iptables -F", "iptables -D OUTPUT 1", "ebtables -F", "nft flush ruleset"):
        clean.guard(clean.rule("iptables"))
        assert clean.rig.ask("heard")["heard"] == 0
        clean.shell(change)
        assert clean.rig.ask("heard")["heard"] > 0
