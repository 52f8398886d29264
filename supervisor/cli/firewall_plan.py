# SPDX-License-Identifier: Apache-2.0
"""Owns `agent-supervisor firewall plan`: the exact rules for this machine, and what loading them would change.

It changes nothing. Without root it prints the rules alone.
"""

import argparse
import json
import os
from typing import TYPE_CHECKING

import msgspec

from ipc.errors import AgentError
from policy.egress import PORTS, ebtables, iptables, nft
from supervisor.cli.firewall import EXIT_NOT, EXIT_WELL, add_options, carried_out, complain
from supervisor.cli.firewall_agent import Agent, agent_if_it_answers
from supervisor.cli.firewall_compare import as_listed, changes
from supervisor.cli.firewall_loaded import Loaded, loaded
from supervisor.cli.firewall_neighbours import Neighbour, neighbours
from supervisor.cli.firewall_programs import Programs
from supervisor.cli.firewall_waagent import remains
from supervisor.cli.firewall_wish import Ways, Wish, agent_rule, boot_rule, ways, wish
from supervisor.cli.printable import printable

if TYPE_CHECKING:
    from ipc.messages.egress import Rule

# Where the supervisor is, below systemd, once it runs.
USUAL_CGROUP = "system.slice/agent-supervisor.service/supervisor"
ONLY_ROOT = "what is loaded only root can see"


class Plan(msgspec.Struct, frozen=True):
    """`rules` is what each program is given, by its command. `changes` is None where it can't be told, `unknown` says
    why; `why` no better mechanism is planned. `left` is another agent's, and would go."""

    mode: str
    settings: str
    mechanism: str = ""
    why: str = ""
    admits: str = ""
    rules: dict[str, str] = {}
    changes: list[str] | None = None
    unknown: str = ""
    left: list[str] = []
    beside: list[Neighbour] = []


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the sub-command."""
    parser.add_argument("--boot", action="store_true", help="the rule of before the agent runs: it admits no agent")
    add_options(parser)
    parser.set_defaults(carry_out=carried_out(_plan))


def _plan(options: argparse.Namespace) -> int:
    programs = Programs()
    wanted, found = wish(options.config), ways(programs)
    there = loaded(programs, wanted.wanted.address) if os.geteuid() == 0 else None
    if wanted.wanted.mode == "off":
        plan = _off(wanted, there)
    else:
        agent, silent = (None, "") if options.boot else agent_if_it_answers(options.socket)
        plan = _on(wanted, found, there, _rule(wanted, found, agent, at_boot=options.boot))
        _tell_guess(plan, silent)
    left = [] if there is None else there.left + remains(programs, wanted.wanted.address, wanted.lib_dir).names
    beside = neighbours(programs, there.foreign if there is not None else ())
    plan = msgspec.structs.replace(plan, left=left, beside=beside)
    if options.json:
        print(json.dumps(msgspec.to_builtins(plan)))
    else:
        print("\n".join(printable(line.expandtabs(4)) for line in _lines(plan, wanted.wanted.address)))
    return EXIT_NOT if plan.changes or plan.left else EXIT_WELL


def _off(wanted: Wish, there: Loaded | None) -> Plan:
    if there is None:
        return Plan("off", wanted.why, unknown=ONLY_ROOT)
    return Plan("off", wanted.why, changes=changes(there, Loaded()))


def _rule(wanted: Wish, found: Ways, agent: Agent | None, *, at_boot: bool) -> "Rule":
    """The mechanism is what the agent has in force, else the best that may be had here. ValueError where none may."""
    if not found.mechanisms:
        raise ValueError(f"no rule can be loaded here: {found.why}")
    if at_boot:
        return boot_rule(wanted, found.mechanisms[0])
    told = [each for each in found.mechanisms if agent is not None and agent.rule.mechanism == each]
    cgroup = agent.cgroup if agent is not None and agent.cgroup else USUAL_CGROUP
    return agent_rule(wanted, (told or found.mechanisms)[0], cgroup)


def _tell_guess(plan: Plan, silent: str) -> None:
    """`silent`: why no agent told in which cgroup it is, empty where one did, or none is admitted."""
    if silent and plan.mechanism == "nft-cgroup":
        guess = f"the cgroup {USUAL_CGROUP} is guessed, as systemd's unit has it"
        complain(f"{guess}; the agent does not tell its own: {silent}", EXIT_WELL)


def _on(wanted: Wish, found: Ways, there: Loaded | None, rule: "Rule") -> Plan:
    changed, unknown = (None, ONLY_ROOT) if there is None else _changes(there, rule, found.below)
    listing = "\n".join(there.chains) if there is not None else ""
    return Plan(rule.mode, wanted.why, rule.mechanism, found.why, _admitted(rule), _texts(rule, found.below, listing),
                changed, unknown)  # fmt: skip


def _changes(there: Loaded, rule: "Rule", below: str) -> tuple[list[str] | None, str]:
    try:
        return changes(there, as_listed(rule, below)), ""
    except (AgentError, OSError) as error:
        awaited = f"; {rule.cgroup} is there only while the agent runs (see --boot)" if rule.cgroup else ""
        return None, f"it can't be tried here: {error}{awaited}"


def _texts(rule: "Rule", below: str, listing: str) -> dict[str, str]:
    if rule.mechanism == "iptables":
        frames = "".join(f"{line}\n" for line in ebtables.wanted(rule))
        restored = {f"iptables-restore {' '.join(iptables.RESTORE)}": iptables.ruleset(rule, listing)}
        return restored | ({"ebtables": f"{' '.join(ebtables.MAKE)}\n{frames}"} if frames else {})
    return {f"nft {' '.join(nft.LOAD)}": nft.ruleset(rule, below) + nft.bridge(rule)}


def _admitted(rule: "Rule") -> str:
    """Whom the rule lets through, in words."""
    own = f"sockets of the cgroup {rule.cgroup}" if rule.mechanism == "nft-cgroup" and rule.cgroup else ""
    if rule.mechanism != "nft-cgroup" and rule.uid:
        own = f"sockets made under the uid {rule.uid}, which only the agent takes on"
    guests = [f"{guest} (who provisions this VM)" for guest in rule.guests if rule.mechanism == "nft-cgroup"]
    root = ["all that root runs (who provisions this VM can't be told from it)"] if rule.root_is_guest else []
    return ", ".join([*([own] if own else []), *guests, *root]) or "nobody"


def _lines(plan: Plan, address: str) -> list[str]:
    lines = [f"mode: {plan.mode} ({plan.settings})"]
    if plan.mechanism:
        better = f" ({plan.why})" if plan.why else ""
        ports = " and ".join(map(str, PORTS))
        lines += [f"mechanism: {plan.mechanism}{better}", f"TCP ports {ports} of {address} are for: {plan.admits}"]
    for command, text in plan.rules.items():
        lines += ["", f"# {command}", *text.splitlines()]
    lines += ["", *_change_lines(plan)]
    lines += [f"would be removed, another agent left it: {left}" for left in plan.left]
    return lines + [f"beside it runs {neighbour.name}: {neighbour.beside}" for neighbour in plan.beside]


def _change_lines(plan: Plan) -> list[str]:
    if plan.changes is None:
        return [f"what would change is not known: {plan.unknown}"]
    return ["would change, against what is loaded:", *plan.changes] if plan.changes else ["nothing would change"]
