# SPDX-License-Identifier: Apache-2.0
"""Owns `agent-supervisor policy export-units`: for each kind an equivalent systemd unit, as files or as text."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor.cli.policy import EXIT_WELL, add_policy_options, carried_out, chosen_policy
from supervisor.layout import Layout

if TYPE_CHECKING:
    from policy.edition import Edition

EPILOG = """\
The units are for tools that read units; they are not to be started. Each directive says what our jail enforces for
that kind; where our jail has another mechanism than systemd, a comment names it.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the sub-command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--output", metavar="DIR", type=Path, help="write files there, which is made if need be")
    add_policy_options(parser)
    parser.set_defaults(carry_out=carried_out(_export))


def units(edition: "Edition") -> dict[str, str]:
    """File name and text of every kind's unit, as it would be on this machine."""
    import sys

    from policy.installed import here
    from policy.units.export import export

    local = here(edition, Layout().lib)
    return export(local.profiles.values(), local.groups, sys.executable)


def _export(options: argparse.Namespace) -> int:
    made = units(chosen_policy(options).edition)
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        for name, text in made.items():
            (options.output / name).write_text(text, encoding="utf-8")
    if options.json:
        print(json.dumps({"units": made}))
    elif options.output is not None:
        print(f"{len(made)} units written to {options.output}")
    else:
        print("\n".join(f"# --- {name}\n{text}" for name, text in made.items()), end="")
    return EXIT_WELL
