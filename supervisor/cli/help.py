# SPDX-License-Identifier: Apache-2.0
"""Owns `agent-supervisor help [COMMAND]`."""

import argparse


def configure(parser: argparse.ArgumentParser, top: argparse.ArgumentParser) -> None:
    """Arguments of the command; `top` is the parser of the whole command line."""
    parser.add_argument(
        "about",
        nargs="?",
        metavar="COMMAND",
        choices=(
            "run",
            "ps",
            "status",
            "goal-state",
            "extensions",
            "certificates",
            "audit",
            "log",
            "policy",
            "firewall",
            "prove",
            "version",
            "help",
        ),
    )
    parser.set_defaults(carry_out=lambda options: show(top, options.about))


def show(top: argparse.ArgumentParser, about: str | None) -> int:
    """Print the help of the command `about`, or of all."""
    if about is not None:
        top.parse_args([about, "--help"])  # prints and exits
    top.print_help()
    return 0
