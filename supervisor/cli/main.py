# SPDX-License-Identifier: Apache-2.0
"""Owns the choice of the command and the exit statuses; runs in the process of `agent-supervisor ps` and its like."""

import argparse
import signal
import sys
from collections.abc import Sequence
from importlib import import_module

from supervisor.cli import help as help_command
from supervisor.cli.client import NOT_RUNNING, why_silent
from supervisor.layout import Layout

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_RUNNING = 3
EXIT_NO_PERMISSION = 4

# Each is a module of this folder, with `configure`; in the order in which help lists them.
COMMANDS = (
    ("ps", "show the agent's processes, their state and their privileges"),
    ("status", "tell where provisioning stands, and wait for it if asked to"),
    ("goal-state", "tell what the platform wants of this VM, and what came of it"),
    ("extensions", "show the VM's extensions, what runs of them, and what came of it"),
    ("certificates", "show the certificates that the platform has sent this VM"),
    ("audit", "hold every process and file against its policy"),
    ("log", "verify the audit log, or show what is in it"),
    ("policy", "show, check, compare and score what each kind of process may do"),
    ("firewall", "show, plan, load or remove the rule in front of the WireServer"),
    ("prove", "attack from the confinement of each kind of process, and tell"),
    ("version", "show the version, and that of the running agent"),
)

# Those which people call when something is amiss.
TOLD_WHERE = frozenset({"ps", "extensions"})

EPILOG = """\
exit status: 0 all went well; 1 the agent gave no usable answer; 2 wrong usage, or settings that can't be
used; 3 the agent is not running;
4 no permission to ask it. Those of status tell more: see its help
"""


def parser(arguments: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The whole command line; `run` is here for its help text alone (supervisor/__main__.py reads it).

    A command is complete only where it is among `arguments`: what the others load would be for nothing."""
    top = argparse.ArgumentParser(
        prog="agent-supervisor",
        description="A privilege-separated agent for Linux VMs on Azure.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        parsing = commands.add_parser(name, help=text, description=text)
        # Whose usage is shown for a word that it does not know.
        parsing.set_defaults(complain=parsing.error)
        return parsing

    run = command("run", "be the agent, in the foreground (what systemd starts)")
    run.add_argument("--config", metavar="FILE", default=Layout().config, help="settings (default: %(default)s)")
    for name, text in COMMANDS:
        parsing = command(name, text)
        if name in arguments:
            import_module(f"supervisor.cli.{name.replace('-', '_')}").configure(parsing)
    help_command.configure(command("help", "show this, or the help of one command or action"), top)
    return top


def main(arguments: Sequence[str]) -> int:
    """Carry out one command; returns its exit status."""
    # A reader that has seen enough (head, less) ends us without a word, like any other tool.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    options, unknown = parser(arguments).parse_known_args(arguments)
    if unknown:
        options.complain(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        status: int = options.carry_out(options)
    except NOT_RUNNING as error:
        where = "; journalctl -u agent-supervisor may tell why" if options.command in TOLD_WHERE else ""
        return _complain(f"{why_silent(error)}{where}", EXIT_NOT_RUNNING)
    except PermissionError as error:
        return _complain(why_silent(error), EXIT_NO_PERMISSION)
    except (OSError, ValueError) as error:
        return _complain(why_silent(error), EXIT_FAILED)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return status


def _complain(sentence: str, status: int) -> int:
    print(f"agent-supervisor: {sentence}", file=sys.stderr)
    return status
