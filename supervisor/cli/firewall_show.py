# SPDX-License-Identifier: Apache-2.0
"""Owns `agent-supervisor firewall show`: what is in force, whom it refused, and what root can still do.

It changes nothing. The agent tells what it knows, the kernel (root alone may ask it) what is loaded.
"""

import argparse
import json
import os
import textwrap
import time

import msgspec

from supervisor.cli.firewall import EXIT_NOT, EXIT_WELL, add_options, carried_out
from supervisor.cli.firewall_agent import Agent, agent_if_it_answers
from supervisor.cli.firewall_load import NotInForce, outsider_passes
from supervisor.cli.firewall_loaded import Loaded, loaded
from supervisor.cli.firewall_neighbours import Neighbour, neighbours
from supervisor.cli.firewall_programs import Programs
from supervisor.cli.firewall_waagent import remains
from supervisor.cli.firewall_wish import Wish, wish
from supervisor.cli.printable import printable
from supervisor.status import Egress

WIDTH = 80
WORDS = {True: "yes", False: "no", None: "not known"}
ROOT_CAN = (
    "An unconfined process of root's can still put itself into the agent's cgroup, make a socket under its uid, flush "
    "the table, go round it with a packet socket or a macvlan of its own, or read the agent's memory. The rule closes "
    "the way that is open to everybody by default; it is no boundary against root.",
    "Some of that shows: a table that is touched is put back within a second, who did it is in the audit log "
    "(agent-supervisor log show --event egress), and it is counted here; agent-supervisor audit names whoever is in "
    "the agent's cgroups and has no business there. A packet socket, and reading memory, show nowhere.",
    "The secure channel ends it where the host has it switched on: the host itself refuses what the agent has not "
    "signed. docs/firewall.md has all of it.",
)


class Shown(msgspec.Struct, frozen=True):
    """`agent` is what the running one says, `silent` why none does; `loaded` what the kernel has, None where only root
    could see it.

    `as_wanted` is by what both say, as far as they can be asked: None where neither could."""

    mode: str
    settings: str
    address: str
    as_wanted: bool | None
    agent: Egress | None
    silent: str
    loaded: list[str] | None
    counters: dict[str, int]
    left: list[str]
    beside: list[Neighbour]
    root_can: tuple[str, ...] = ROOT_CAN


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the sub-command."""
    add_options(parser)
    parser.set_defaults(carry_out=carried_out(_show))


def _show(options: argparse.Namespace) -> int:
    programs, wanted = Programs(), wish(options.config)
    agent, silent = agent_if_it_answers(options.socket)
    there = loaded(programs, wanted.wanted.address) if os.geteuid() == 0 else None
    shown = Shown(
        wanted.wanted.mode,
        wanted.why,
        wanted.wanted.address,
        _is_as_wanted(wanted, agent, there),
        agent.rule if agent is not None else None,
        silent,
        None if there is None else _names(there),
        {} if there is None else there.counters,
        [] if there is None else there.left + remains(programs, wanted.wanted.address, wanted.lib_dir).names,
        neighbours(programs, there.foreign if there is not None else ()),
    )
    if options.json:
        print(json.dumps(msgspec.to_builtins(shown)))
    else:
        print("\n".join(printable(line) for line in _lines(shown)))
    return EXIT_WELL if shown.as_wanted else EXIT_NOT


def _is_as_wanted(wanted: Wish, agent: Agent | None, there: Loaded | None) -> bool | None:
    """Without the agent the rule of before it counts, and so it does while the agent is loading its own."""
    mode = wanted.wanted.mode
    if agent is not None and (agent.rule.mode != mode or agent.rule.why):
        return False
    if there is None:
        return True if agent is not None else None
    if agent is None and there.is_ours and mode != "off":
        return _does_as_wanted(mode, there)
    return there.is_ours == (mode != "off")


def _does_as_wanted(mode: str, there: Loaded) -> bool | None:
    """A table of our name may have anything in it, and nobody watches: this process, an outsider, tries it.

    Where a rule has guests, root may be one of them, and nothing is told by its getting through."""
    try:
        passes = outsider_passes()
    except NotInForce:
        return None
    if passes and mode == "enforce" and "guest0" in there.counters:
        return None
    return passes == (mode == "observe")


def _names(there: Loaded) -> list[str]:
    """What of ours is loaded, without what is in it."""
    tables = [f"table {family} agent_supervisor" for family in there.tables]
    grants = [f"table {family} {name}, a grant's" for family, name in there.grants]
    frames = ["a chain of ebtables"] if there.frames is not None else []
    return [*tables, *grants, *(["chains of iptables"] if there.chains else []), *frames]


def _lines(shown: Shown) -> list[str]:
    lines = [f"wanted: {shown.mode} ({shown.settings}), for {shown.address}"]
    agent = shown.agent
    lines.append(f"agent: {agent.sentence if agent is not None else shown.silent}")
    if agent is not None and agent.mechanism:
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(agent.since))
        lines.append(f"in force since: {since}; put back {agent.put_back} time{'s' * (agent.put_back != 1)}")
    lines.append(f"loaded: {_loaded_text(shown)}")
    if shown.counters:
        told = ", ".join(f"{_counter(name)} {packets}" for name, packets in sorted(shown.counters.items()))
        lines.append(f"packets since it was loaded: {told}")
    lines += [f"another agent left: {left} (apply removes it)" for left in shown.left]
    lines += [f"beside it runs {neighbour.name}: {neighbour.beside}" for neighbour in shown.beside]
    lines += [f"as the settings want it: {WORDS[shown.as_wanted]}{_cure(shown)}", "", "What root can still do"]
    return lines + [line for text in shown.root_can for line in textwrap.wrap(text, WIDTH)]


def _cure(shown: Shown) -> str:
    if shown.as_wanted is not False:
        return ""
    if shown.agent is not None and shown.agent.mode != shown.mode:
        return "; the settings were changed since the agent was started: restart it"
    return "; agent-supervisor firewall apply" if shown.mode != "off" else "; agent-supervisor firewall remove"


def _loaded_text(shown: Shown) -> str:
    if shown.loaded is None:
        return "only root can see that"
    return ", ".join(shown.loaded) or "nothing of ours"


def _counter(name: str) -> str:
    if name == "tried":
        return "of trials"
    return "of guests" if name.startswith("guest") else name
