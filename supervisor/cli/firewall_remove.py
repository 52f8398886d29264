# SPDX-License-Identifier: Apache-2.0
"""Owns `agent-supervisor firewall remove`: all of ours goes, whatever loaded it. Needs root."""

import argparse
import json

from supervisor.cli.firewall import EXIT_WELL, add_options, as_root, carried_out
from supervisor.cli.firewall_agent import running_agent
from supervisor.cli.firewall_load import unload
from supervisor.cli.firewall_loaded import loaded
from supervisor.cli.firewall_programs import Programs
from supervisor.cli.firewall_wish import wish

FOR_GOOD = "to be rid of it for good set Firewall.Mode=off in /etc/waagent.conf and restart the agent"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the sub-command."""
    add_options(parser)
    parser.set_defaults(carry_out=carried_out(_remove))


def _remove(options: argparse.Namespace) -> int:
    as_root("removing the rule")
    programs, wanted = Programs(), wish(options.config)
    there = loaded(programs, wanted.wanted.address)
    unload(programs, there)
    names = [f"table {family} agent_supervisor" for family in there.tables]
    grants = [f"table {family} {name}" for family, name in there.grants]
    frames = ["our chain of ebtables"] if there.frames is not None else []
    gone = [*names, *grants, *(["our chains of iptables"] if there.chains else []), *frames]
    said = [f"removed: {', '.join(gone)}" if gone else "nothing of ours was loaded"]
    agent = running_agent(options.socket)
    if agent is not None and agent.rule.mode != "off":
        said.append(f"the agent runs and puts it back; {FOR_GOOD}")
    elif wanted.wanted.mode != "off":
        said.append(f"the next boot, and the next start of the agent, load it again; {FOR_GOOD}")
    print(json.dumps({"removed": gone, "said": said}) if options.json else "\n".join(said))
    return EXIT_WELL
