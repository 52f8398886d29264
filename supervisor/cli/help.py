# SPDX-License-Identifier: Apache-2.0
"""Owns `agent-supervisor help [COMMAND [ACTION]]`."""

import argparse
from collections.abc import Sequence


def configure(parser: argparse.ArgumentParser, top: argparse.ArgumentParser) -> None:
    """Arguments of the command; `top` is the parser of the whole command line."""
    parser.add_argument("about", nargs="*", metavar="COMMAND", help="a command, and one of its actions if it has any")
    parser.set_defaults(carry_out=lambda options: show(top, options.about))


def show(top: argparse.ArgumentParser, about: Sequence[str]) -> int:
    """Print the help of the command that these words name, or of all; a word that is none is wrong usage."""
    if about:
        top.parse_args([*about, "--help"])  # prints and exits
    top.print_help()
    return 0
