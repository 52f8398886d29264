# SPDX-License-Identifier: Apache-2.0
"""Owns how a command gets its sub-commands; runs in the processes of `agent-supervisor`."""

import argparse
from collections.abc import Callable
from typing import Any

# What argparse's add_subparsers returns has no public name.
Actions = Any
# Name, what gives the parser its arguments, and one line of help.
Row = tuple[str, Callable[[argparse.ArgumentParser], None], str]


def add_actions(parser: argparse.ArgumentParser, epilog: str, *rows: Row) -> Actions:
    """Give `parser` these sub-commands, one of which has to be named; `epilog` is printed as it stands."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = epilog
    actions: Actions = parser.add_subparsers(metavar="ACTION", required=True)
    for name, configure, text in rows:
        action = actions.add_parser(name, help=text, description=text)
        # Whose usage is shown for a word that it does not know.
        action.set_defaults(complain=action.error)
        configure(action)
    return actions
