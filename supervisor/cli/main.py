# SPDX-License-Identifier: Apache-2.0
"""Owns the choice of the command and the exit statuses; runs in the process of `agent-supervisor ps` and its like."""

import argparse
import signal
import sys
from collections.abc import Sequence

from supervisor.cli import help as help_command
from supervisor.cli import ps, status, version
from supervisor.cli.client import NOT_RUNNING, why_silent
from supervisor.layout import Layout

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NOT_RUNNING = 3
EXIT_NO_PERMISSION = 4

EPILOG = """\
exit status: 0 all went well; 1 the agent gave no usable answer; 2 wrong usage; 3 the agent is not running;
4 no permission to ask it. Those of status tell more: see its help
"""


def parser() -> argparse.ArgumentParser:
    """The whole command line; `run` is here for its help text alone (supervisor/__main__.py reads it)."""
    top = argparse.ArgumentParser(
        prog="agent-supervisor",
        description="A privilege-separated agent for Linux VMs on Azure.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    run = commands.add_parser("run", help="be the agent, in the foreground (what systemd starts)")
    run.add_argument("--config", metavar="FILE", default=Layout().config, help="settings (default: %(default)s)")
    ps.configure(commands.add_parser("ps", help="show the agent's processes, their state and their privileges"))
    status.configure(commands.add_parser("status", help="tell where provisioning stands, and wait for it if asked to"))
    version.configure(commands.add_parser("version", help="show the version, and that of the running agent"))
    help_command.configure(commands.add_parser("help", help="show this, or the help of one command"), top)
    return top


def main(arguments: Sequence[str]) -> int:
    """Carry out one command; returns its exit status."""
    # A reader that has seen enough (head, less) ends us without a word, like any other tool.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    options = parser().parse_args(arguments)
    try:
        status: int = options.carry_out(options)
    except NOT_RUNNING as error:
        return _complain(why_silent(error), EXIT_NOT_RUNNING)
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
