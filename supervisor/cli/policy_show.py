# SPDX-License-Identifier: Apache-2.0
"""Owns `agent-supervisor policy show [WORKER]`: what is in force, as a table of all kinds or as a page on one.

What is in force for one of the vendors' handlers is policy_extension's."""

import argparse
import json
import shutil
from typing import TYPE_CHECKING

import msgspec

from supervisor.cli.policy import EXIT_WELL, add_policy_options, carried_out, chosen_policy
from supervisor.cli.printable import printable
from supervisor.layout import Layout

if TYPE_CHECKING:
    from policy.edition import Stage
    from policy.in_force import InForce

WIDEST, NARROWEST = 100, 60


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the sub-command."""
    parser.add_argument("worker", nargs="?", metavar="WORKER", help="a kind of process (default: a table of all)")
    parser.add_argument(
        "--extension",
        metavar="NAME",
        help="what comes of all rules for this handler, PUBLISHER.TYPE, and where it stands",
    )
    parser.add_argument("--version", metavar="VERSION", help="of that handler: with the limits of its own manifest")
    parser.add_argument(
        "--config", metavar="FILE", default=Layout().config, help="settings (default: %(default)s); with --extension"
    )
    add_policy_options(parser)
    parser.set_defaults(carry_out=carried_out(_show))


def _show(options: argparse.Namespace) -> int:
    if options.extension is not None and options.worker is None:
        from supervisor.cli import policy_extension

        return policy_extension.show(options)
    if options.extension is not None or options.version is not None:
        raise ValueError("expected one of the two, WORKER or --extension NAME; --version is an extension's")
    policy = chosen_policy(options)
    kinds = sorted(policy.edition.profiles)
    if options.worker is not None and options.worker not in kinds:
        raise ValueError(f"there is no kind {options.worker}; there are {', '.join(kinds)}")
    chosen = [options.worker] if options.worker is not None else kinds
    if options.json:
        from policy.extensions import WITHOUT

        pages = [_as_data(policy, kind) for kind in chosen]
        demands = {"min_level": policy.min_level, "required": policy.required}
        granted, rules = msgspec.to_builtins(policy.wireserver), msgspec.to_builtins(policy.extensions)
        extensions = {"without": WITHOUT, "rules": rules}
        everything = {"kinds": pages, "demands": demands, "wireserver": granted, "extensions": extensions}
        print(json.dumps(pages[0] if options.worker is not None else everything))
        return EXIT_WELL
    columns = shutil.get_terminal_size((WIDEST, 24)).columns
    if options.worker is None:
        from supervisor.cli.policy_table import table

        shown = table(policy, columns)
    else:
        from supervisor.cli.policy_page import page

        shown = page(policy, options.worker, max(NARROWEST, min(columns, WIDEST)))
    print("\n".join(printable(line) for line in shown))
    return EXIT_WELL


def _as_data(policy: "InForce", kind: str) -> dict[str, object]:
    """The profile as it is in force, what its two stages may call, and what overrides changed."""
    startup, locked = policy.edition.stages[kind]
    return {
        **msgspec.to_builtins(policy.edition.profiles[kind]),
        "stages": {"startup": _stage(startup), "locked": _stage(locked)},
        "overrides": [{**msgspec.to_builtins(change), "file": file} for file, change in policy.of(kind)],
    }


def _stage(stage: "Stage") -> dict[str, object]:
    from policy.call_numbers import is_here

    return {
        "otherwise": stage.otherwise,
        "calls": {
            name: {
                "why": call.why,
                "here": is_here(name),
                "only": [
                    {"argument": place, "mask": mask, "value": value} for place, mask, value in sorted(call.rules)
                ],
            }
            for name, call in sorted(stage.calls.items())
        },
    }
