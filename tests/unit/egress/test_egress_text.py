# SPDX-License-Identifier: Apache-2.0
"""What nft and iptables are told for each rule, as values; loading it for real is tests/egress' part."""

import re

import pytest

from ipc.messages.egress import Mode, Rule
from policy.egress import CANARY, LOG_BYTES, LOG_GROUP, hierarchy, iptables, leftovers, nft

ADDRESS = "168.63.129.16"
OURS = "system.slice/agent-supervisor.service/supervisor"
BY_CGROUP = Rule("nft-cgroup", "enforce", ADDRESS, cgroup=OURS)
BY_UID = Rule("nft-uid", "enforce", ADDRESS, uid=61183)
BY_IPTABLES = Rule("iptables", "enforce", ADDRESS, uid=61183)
MATCH = f'socket cgroupv2 level 3 "unified/{OURS}"'


def chain(text: str, name: str) -> list[str]:
    """The rules of one chain, its own line (type, hook) left out."""
    found = re.search(rf"^\tchain {name} {{\n(.*?)^\t}}$", text, re.MULTILINE | re.DOTALL)
    assert found, f"no chain {name}"
    return [line.strip() for line in found[1].splitlines() if not line.strip().startswith("type ")]


def test_it_replaces_our_table_in_one_transaction_and_touches_no_other() -> None:
    text = nft.ruleset(BY_CGROUP, "unified") + nft.bridge(BY_CGROUP)
    lines = [line for line in text.splitlines() if not line.startswith(("\t", "}"))]
    assert lines == [
        "table ip agent_supervisor", "delete table ip agent_supervisor", "table ip agent_supervisor {",
        "table bridge agent_supervisor", "delete table bridge agent_supervisor", "table bridge agent_supervisor {",
    ]  # fmt: skip


@pytest.mark.parametrize("mode", ["observe", "enforce"])
@pytest.mark.parametrize("rule", [BY_CGROUP, BY_UID, BY_IPTABLES], ids=lambda rule: rule.mechanism)
def test_nothing_switches_connection_tracking_on(rule: Rule, mode: Mode) -> None:
    rule = Rule(rule.mechanism, mode, ADDRESS, rule.cgroup, rule.uid, (), root_is_guest=True)
    text = iptables.ruleset(rule, "") if rule.mechanism == "iptables" else nft.ruleset(rule) + nft.bridge(rule)
    assert not re.search(r"\b(ct|conntrack|nat|notrack|masquerade|state)\b", text)


def test_leaving_is_judged_by_the_socket_and_what_has_none_is_neither_counted_nor_answered() -> None:
    rules = chain(nft.ruleset(BY_CGROUP, "unified"), "leaving")
    assert rules[0] == f"{MATCH} accept"
    assert rules[1] == f"ip daddr {CANARY} meta skuid >= 0 counter name tried reject with tcp reset"
    assert f"group {LOG_GROUP} snaplen {LOG_BYTES}" in rules[2]
    assert "tcp flags & (fin|syn|rst|ack) == syn" in rules[2]
    assert rules[3:] == ["meta skuid >= 0 counter name refused reject with tcp reset", "drop"]


def test_resets_arrive_before_anything_is_judged() -> None:
    assert chain(nft.ruleset(BY_CGROUP, "unified"), "arriving") == [
        "tcp flags rst accept", f"{MATCH} accept", "drop"
    ]  # fmt: skip


def test_the_canary_is_behind_the_rule_and_by_uid_only_on_the_way_out() -> None:
    for rule, judged in ((BY_CGROUP, ["output", "input"]), (BY_UID, ["output"])):
        text = nft.ruleset(rule)
        jumps = {name: [line for line in chain(text, name) if " jump " in line] for name in ("output", "input")}
        assert [name for name, lines in jumps.items() if CANARY in "".join(lines)] == judged


@pytest.mark.parametrize("demux", [True, False])
@pytest.mark.parametrize("mode", ["observe", "enforce"])
@pytest.mark.parametrize("rule", [BY_CGROUP, BY_UID], ids=lambda rule: rule.mechanism)
def test_nothing_from_a_wire_reaches_the_canary(rule: Rule, mode: Mode, *, demux: bool) -> None:
    text = nft.ruleset(Rule(rule.mechanism, mode, ADDRESS, rule.cgroup, rule.uid), demux=demux)
    assert chain(text, "input")[0] == f"iif != lo ip daddr {CANARY} drop"


def test_by_uid_nothing_that_arrives_is_judged_where_its_socket_is_not_found_early() -> None:
    assert "meta skuid 61183 accept" in chain(nft.ruleset(BY_UID), "arriving")
    assert "jump arriving" not in nft.ruleset(BY_UID, demux=False)
    assert "jump arriving" in nft.ruleset(BY_CGROUP, demux=False)


def test_guests_are_admitted_both_ways_and_counted_each() -> None:
    rule = Rule("nft-cgroup", "enforce", ADDRESS, cgroup=OURS, guests=("azureprovisioning.slice", "a/b"))
    text = nft.ruleset(rule)
    for number, match in enumerate(('level 1 "azureprovisioning.slice"', 'level 2 "a/b"')):
        assert f"counter guest{number} {{}}" in text
        assert f"socket cgroupv2 {match} counter name guest{number} accept" in chain(text, "leaving")
        assert f"socket cgroupv2 {match} accept" in chain(text, "arriving")


def test_with_uids_the_guest_is_root_and_only_when_it_is_said() -> None:
    assert "skuid 0 " not in nft.ruleset(BY_UID)
    rule = Rule("nft-uid", "enforce", ADDRESS, uid=61183, root_is_guest=True)
    assert "meta skuid 0 counter name guest0 accept" in chain(nft.ruleset(rule), "leaving")


@pytest.mark.parametrize("mechanism", ["nft-cgroup", "nft-uid"])
def test_before_there_is_a_supervisor_nobody_is_admitted(mechanism: str) -> None:
    """An empty cgroup would be everybody's, uid 0 every root process's."""
    text = nft.ruleset(Rule(mechanism, "enforce", ADDRESS))  # type: ignore[arg-type]
    assert not any("accept" in rule for rule in chain(text, "leaving"))
    assert chain(text, "arriving") == ["tcp flags rst accept", "drop"]


@pytest.mark.parametrize("path", ["..", "a/../b", "a/.", "/a", "a//b"])
def test_a_path_that_leads_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="no path of a cgroup"):
        nft.ruleset(Rule("nft-cgroup", "enforce", ADDRESS, cgroup=path))


def test_observe_refuses_nobody_and_counts_and_logs_all_the_same() -> None:
    rule = Rule("nft-cgroup", "observe", ADDRESS, cgroup=OURS)
    text = nft.ruleset(rule) + nft.bridge(rule)
    assert "drop" not in text.replace(f"iif != lo ip daddr {CANARY} drop", "")
    assert "reject" not in text
    assert "jump arriving" not in text
    assert chain(text, "leaving")[-1] == "meta skuid >= 0 counter name refused accept"
    assert text.count(f"group {LOG_GROUP}") == 2


def test_a_kernel_without_a_log_gets_none() -> None:
    assert "log" not in nft.ruleset(BY_CGROUP, logged=False)
    assert "NFLOG" not in iptables.ruleset(BY_IPTABLES, "", logged=False)


def test_removing_and_listing_of_tables() -> None:
    listing = "table ip filter\ntable ip agent_supervisor\ntable bridge agent_supervisor\ntable inet agent_supervisor\n"
    assert nft.ours(listing) == (("ip", "agent_supervisor"), ("bridge", "agent_supervisor"))
    more = f"{listing}table ip agent_supervisor_grant_0\ntable inet agent_supervisor_grant_1\n"
    assert (nft.ours(more), nft.grants(more)) == (nft.ours(listing), (("ip", "agent_supervisor_grant_0"),))
    assert nft.removal([("ip", "x")]) == "table ip x\ndelete table ip x\n"
    assert nft.removal([]) == ""


def test_iptables_takes_its_old_hooks_out_as_it_puts_the_new_ones_in() -> None:
    listing = "-P OUTPUT ACCEPT\n-A OUTPUT -o lo -j ACCEPT\n" + 2 * (
        "-A OUTPUT -d 168.63.129.16/32 -p tcp -j AGENT-SUPERVISOR\n"
    )
    lines = iptables.ruleset(BY_IPTABLES, listing).splitlines()
    assert (lines[0], lines[-1]) == ("*filter", "COMMIT")
    assert lines.count("-D OUTPUT -d 168.63.129.16/32 -p tcp -j AGENT-SUPERVISOR") == 2
    assert not any("-o lo" in line for line in lines)
    assert "-I OUTPUT 1 -d 168.63.129.16 -p tcp -j AGENT-SUPERVISOR" in lines
    removed = iptables.removal(listing).splitlines()
    assert [line for line in removed if line.startswith(("-A", "-I"))] == []
    assert [line for line in removed if line.startswith("-X")] == [f"-X {chain}" for chain in iptables.CHAINS]


def test_iptables_refuses_what_has_a_socket_and_drops_the_rest() -> None:
    lines = [line for line in iptables.ruleset(BY_IPTABLES, "").splitlines() if line.startswith(f"-A {iptables.WHOSE}")]
    assert lines[0].endswith("-m owner --uid-owner 61183 -j RETURN")
    assert lines[-2].endswith("-m owner --socket-exists -j REJECT --reject-with tcp-reset")
    assert lines[-1].endswith("-j DROP")
    with pytest.raises(ValueError, match="nft-cgroup"):
        iptables.ruleset(BY_CGROUP, "")


def test_counters_are_read_by_name() -> None:
    listed = "table ip agent_supervisor {\n\tcounter refused {\n\t\tpackets 3 bytes 180\n\t}\n"
    assert nft.counters(listed) == {"refused": 3}
    listed = (
        "-A AGENT-SUPERVISOR-WHO -m owner --uid-owner 0 -c 2 120 -j RETURN\n"
        "-A AGENT-SUPERVISOR-WHO -d 127.63.129.16/32 -p tcp -m owner --socket-exists -c 1 60 -j REJECT\n"
        "-A AGENT-SUPERVISOR-WHO -p tcp -m owner --socket-exists -m limit -c 9 9 -j NFLOG --nflog-group 163\n"
        "-A AGENT-SUPERVISOR-WHO -p tcp -m owner --socket-exists -c 4 240 -j REJECT --reject-with tcp-reset\n"
        "-A AGENT-SUPERVISOR-FWD -d 168.63.129.16/32 -p tcp -m tcp --dport 80 -c 5 300 -j DROP\n"
    )
    assert iptables.counters(listed) == {"refused": 4, "forwarded": 5, "tried": 1, "guest0": 2}


def test_what_another_agent_left_is_taken_by_its_exact_form() -> None:
    its = [
        "-A OUTPUT -d 168.63.129.16/32 -p tcp -m tcp --dport 53 -j ACCEPT",
        "-A OUTPUT -d 168.63.129.16/32 -p tcp -m owner --uid-owner 0 -j ACCEPT",
        "-A OUTPUT -d 168.63.129.16/32 -p tcp -m conntrack --ctstate INVALID,NEW -j DROP",
        "-A OUTPUT -d 168.63.129.16/32 -p tcp -m conntrack --ctstate INVALID,NEW -j ACCEPT",
    ]
    others = [
        "-P OUTPUT ACCEPT",
        "-A OUTPUT -d 168.63.129.17/32 -p tcp -m tcp --dport 53 -j ACCEPT",
        "-A OUTPUT -d 168.63.129.16/32 -p tcp -m tcp --dport 53 -j DROP",
        "-A OUTPUT -d 168.63.129.16/32 -p tcp -m owner --uid-owner 0 -m comment --comment mine -j ACCEPT",
    ]
    found = leftovers.removals("\n".join([*others, *its]), ADDRESS)
    assert [" ".join(arguments[4:]) for arguments in found] == [line[3:] for line in its]
    assert {arguments[:4] for arguments in found} == {("-w", "-t", "security", "-D")}


def test_where_cgroup2_is_mounted() -> None:
    hybrid = (
        "30 25 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"
    )
    assert hierarchy.below(hybrid) == "unified"
    assert hierarchy.below("35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw") == ""
    for elsewhere in (
        "",
        "35 24 0:30 / /mnt rw - cgroup2 cgroup2 rw",
        "35 24 0:30 /x /sys/fs/cgroup rw - cgroup2 c rw",
    ):
        with pytest.raises(ValueError, match="no cgroup2"):
            hierarchy.below(elsewhere)
