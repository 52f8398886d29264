# SPDX-License-Identifier: Apache-2.0
"""Owns `agent-supervisor firewall`: its sub-commands, what they have in common, and how they complain.

It works without the agent, too, and before it. Each sub-command loads what it needs only when it is carried out.
"""

import argparse
import os
import sys
from collections.abc import Callable

from ipc.errors import AgentError
from supervisor.cli.actions import add_actions
from supervisor.cli.client import add_socket_option, why_silent
from supervisor.cli.printable import printable
from supervisor.layout import Layout

EXIT_WELL, EXIT_NOT, EXIT_USAGE, EXIT_NO_PERMISSION = 0, 1, 2, 4

EPILOG = """\
The rule leaves TCP ports 80 and 32526 of the WireServer, the Azure host's address, to the agent's supervisor alone:
nobody else on this VM, root included, gets the goal state and the keys in it. Port 53 stays open to all.
OS.EnableFirewall=n in /etc/waagent.conf switches it off, Firewall.Mode=observe refuses nobody and tells who would be.

exit status: 0 the rule is in force as the settings want it (or off, as they want it), plan: nothing would change;
1 it is not, plan: something would; 2 the settings can't be used, or wrong usage; 4 no permission
"""

Action = Callable[[argparse.Namespace], int]


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command and of all its sub-commands."""
    from supervisor.cli import firewall_apply, firewall_plan, firewall_remove, firewall_show

    add_actions(
        parser,
        EPILOG,
        ("show", firewall_show.configure, "show what is in force, whom it refused, and what root can still do"),
        ("plan", firewall_plan.configure, "print the exact rules for this machine, and what loading them would change"),
        ("apply", firewall_apply.configure, "load the rule, or have the running agent load it anew"),
        ("remove", firewall_remove.configure, "take all of ours away"),
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """What all of them take."""
    parser.add_argument("--json", action="store_true", help="as one JSON object")
    parser.add_argument("--config", metavar="FILE", default=Layout().config, help="settings (default: %(default)s)")
    add_socket_option(parser)


def as_root(what: str) -> None:
    """PermissionError unless this process is root's."""
    if os.geteuid() != 0:
        raise PermissionError(f"{what} takes root")


def carried_out(action: Action) -> Action:
    """`action`, with what can go wrong told in one line."""

    def carry_out(options: argparse.Namespace) -> int:
        from ipc.errors import ConfigError

        try:
            return action(options)
        except PermissionError as error:
            # An errno without a file is that of the agent's socket.
            text = why_silent(error) if error.errno and not error.filename else str(error)
            return complain(text, EXIT_NO_PERMISSION)
        except ConfigError as error:
            return complain(str(error), EXIT_USAGE)
        except (AgentError, OSError, ValueError) as error:
            return complain(str(error), EXIT_NOT)

    return carry_out


def complain(sentence: str, status: int) -> int:
    """Say it on standard error; returns `status`."""
    print(printable(f"agent-supervisor: {sentence}"), file=sys.stderr)
    return status
