# SPDX-License-Identifier: Apache-2.0
"""Owns `agent-supervisor firewall apply`: has the running agent load the rule anew, or loads that of before it.

Needs root. The unit agent-supervisor-firewall.service calls it with --boot, before the network is up. What another
agent left is removed as well: its rules always, its unit only by hand.
"""

import argparse
import json

import msgspec

from ipc.messages.egress import Mechanism
from supervisor.cli.firewall import EXIT_NOT, EXIT_WELL, add_options, as_root, carried_out
from supervisor.cli.firewall_agent import Agent, renewed, running_agent
from supervisor.cli.firewall_load import NotInForce, load, take_over, tried, unload
from supervisor.cli.firewall_loaded import Loaded, loaded
from supervisor.cli.firewall_programs import Programs
from supervisor.cli.firewall_waagent import remains
from supervisor.cli.firewall_waagent import take_over as take_over_units
from supervisor.cli.firewall_wish import Wish, boot_rule, ways, wish
from supervisor.cli.printable import printable


class Applied(msgspec.Struct, frozen=True):
    """What came of it: `said` tells it in sentences."""

    mode: str
    in_force: bool
    mechanism: str = ""
    by_agent: bool = False
    said: list[str] = []


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the sub-command."""
    parser.add_argument("--boot", action="store_true", help="the rule of before the agent runs, whether it runs or not")
    add_options(parser)
    parser.set_defaults(carry_out=carried_out(_apply))


def _apply(options: argparse.Namespace) -> int:
    as_root("loading the rule")
    programs, wanted = Programs(), wish(options.config)
    there = loaded(programs, wanted.wanted.address)
    agent = None if options.boot else running_agent(options.socket)
    if wanted.wanted.mode == "off":
        return _told(_off(programs, wanted, there, agent), options)
    said = _taken_over(programs, wanted, there, rules_alone=options.boot)
    if agent is not None:
        applied = _by_agent(options.socket, wanted, agent)
    else:
        applied = _at_boot(programs, wanted, there)
        if not options.boot:
            said.append("the agent does not run: this is the rule of before it, which does not admit it either")
    return _told(msgspec.structs.replace(applied, said=[*applied.said, *said]), options)


def _told(applied: Applied, options: argparse.Namespace) -> int:
    print(json.dumps(msgspec.to_builtins(applied)) if options.json else "\n".join(map(printable, applied.said)))
    return EXIT_WELL if applied.in_force == (applied.mode != "off") else EXIT_NOT


def _off(programs: Programs, wanted: Wish, there: Loaded, agent: Agent | None) -> Applied:
    if agent is not None and agent.rule.mode != "off":
        text = f"switched off ({wanted.why}), but the running agent has read other settings: restart it"
        return Applied("off", in_force=True, by_agent=True, said=[text])
    unload(programs, there)
    gone = "what was loaded is removed" if there.is_ours else "nothing is loaded"
    return Applied("off", in_force=False, said=[f"switched off ({wanted.why}): {gone}"])


def _by_agent(path: str, wanted: Wish, agent: Agent) -> Applied:
    now = renewed(path, agent)
    if now is None:
        return Applied(wanted.wanted.mode, in_force=False, by_agent=True, said=["the agent did not load it in time"])
    said = [now.rule.sentence]
    if now.rule.mode != wanted.wanted.mode:
        said.append(f"the settings say {wanted.wanted.mode} ({wanted.why}): the agent reads them when it starts")
    in_force = bool(now.rule.mechanism) and now.rule.mode == wanted.wanted.mode
    return Applied(wanted.wanted.mode, in_force, now.rule.mechanism, True, said)


def _at_boot(programs: Programs, wanted: Wish, there: Loaded) -> Applied:
    """By the first mechanism that does what it is for. Where none does, none stays loaded."""
    found = ways(programs)
    failures = [found.why] if found.why else []
    for mechanism in found.mechanisms:
        try:
            return Applied(
                wanted.wanted.mode, True, mechanism, False, [_loaded(programs, wanted, mechanism, found.below)]
            )
        except NotInForce as error:
            failures.append(f"{mechanism}: {error}")
    unload(programs, loaded(programs, wanted.wanted.address))
    return Applied(wanted.wanted.mode, False, said=[f"no rule is in force: {'; '.join(failures)}"])


def _loaded(programs: Programs, wanted: Wish, mechanism: Mechanism, below: str) -> str:
    """What is in force by `mechanism`; NotInForce when it is not, and then perhaps loaded all the same."""
    rule = boot_rule(wanted, mechanism)
    lacking = load(programs, rule, below)
    outcome = tried(programs, rule)
    there = loaded(programs, rule.address)
    # Of an earlier rule, by another mechanism.
    by_nft = mechanism != "iptables"
    unload(programs, Loaded(chains=there.chains, frames=there.frames) if by_nft else Loaded(tables=there.tables))
    whom = "root, as long as others provision" if rule.root_is_guest else ", ".join(rule.guests) or "nobody"
    told = f"in force by {mechanism}, {rule.mode}, for {rule.address}: {outcome}; let through: {whom}"
    return f"{told}; {lacking}" if lacking else told


def _taken_over(programs: Programs, wanted: Wish, there: Loaded, *, rules_alone: bool) -> list[str]:
    """Another agent's leftovers go, those that keep our own sockets out first of all."""
    address, lib_dir = wanted.wanted.address, wanted.lib_dir
    said, left = take_over(programs, there), there.left
    if not rules_alone:
        found = remains(programs, address, lib_dir)
        left += found.names
        said += take_over_units(programs, found)
    if not left:
        return said
    staying = {*loaded(programs, address).left, *remains(programs, address, lib_dir).names}
    return [f"removed, another agent left it: {name}" for name in left if name not in staying] + said
