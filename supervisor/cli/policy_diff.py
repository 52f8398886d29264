# SPDX-License-Identifier: Apache-2.0
"""Owns `agent-supervisor policy diff`: what overrides change, or what one edition has that another one has not."""

import argparse
import json
import shutil
import textwrap
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from supervisor.cli.policy import EXIT_FOUND, EXIT_WELL, add_policy_options, carried_out, chosen_policy
from supervisor.cli.printable import printable

if TYPE_CHECKING:
    from policy.difference import Change

EPILOG = """\
Without OLD and NEW: what was installed, and what is in force with the overrides. OLD and NEW are folders with profiles/
and calls/, or with a compiled.bin, or such a file.

exit status: 0 no difference; 1 a difference; 2 trouble
"""
WIDEST = 100


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the sub-command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("editions", nargs="*", metavar="OLD NEW", type=Path, help="two editions of the policy")
    add_policy_options(parser)
    parser.set_defaults(carry_out=carried_out(lambda options: _diff(parser, options)))


def _diff(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if len(options.editions) not in {0, 2}:
        parser.error("give both OLD and NEW, or none of them")
    changes = list(_changes(options))
    if options.json:
        print(json.dumps({"changes": [{**msgspec.to_builtins(change), "file": file} for file, change in changes]}))
    else:
        width = min(shutil.get_terminal_size((WIDEST, 24)).columns, WIDEST)
        print("\n".join(printable(line) for line in lines(changes, width)) or "no difference")
    return EXIT_FOUND if changes else EXIT_WELL


def _changes(options: argparse.Namespace) -> Iterable[tuple[str, "Change"]]:
    """Each change, and the override file that makes it ("" between two editions)."""
    from policy.difference import difference
    from policy.edition import read_edition

    if options.editions:
        old, new = map(read_edition, options.editions)
        return [("", change) for change in difference(old, new)]
    return chosen_policy(options).changes


def lines(changes: Iterable[tuple[str, "Change"]], width: int) -> Iterator[str]:
    """Kind by kind; what has sign, key, effect and reason in common stands together."""
    for kind, of_kind in groupby(sorted(changes, key=lambda pair: pair[1].kind), key=lambda pair: pair[1].kind):
        yield f"{kind}:"
        alike = groupby(of_kind, key=lambda pair: (pair[0], _head(pair[1]), pair[1].why))
        for (file, head, why), together in alike:
            whats = ", ".join(change.what for _, change in together)
            yield from textwrap.wrap(
                f"{head} {whats}", width, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False
            )
            said = f"{why} [{file}]" if file else why
            yield from textwrap.wrap(said, width, initial_indent="      ", subsequent_indent="      ")


def _head(change: "Change") -> str:
    return f"{change.sign} {change.key} ({change.effect}):"
