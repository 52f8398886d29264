# SPDX-License-Identifier: Apache-2.0
"""Owns `agent-supervisor policy score`: how exposed each kind is, by our index and by systemd's measure."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from supervisor.cli import policy_systemd
from supervisor.cli.policy import EXIT_FOUND, EXIT_WELL, add_policy_options, carried_out, chosen_policy
from supervisor.cli.policy_systemd import Score
from supervisor.layout import Layout

if TYPE_CHECKING:
    from policy.exposure import Reach, Shift, Weights

UNIT = "agent-supervisor.service"
UNIT_FOLDERS = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
EPILOG = """\
INDEX is ours, 0 to 100, made of what the policy grants; its weights are in policy/exposure.toml. SYSTEMD is what
systemd-analyze says, 0 to 10, of the unit that `export-units` makes. systemd applies none of these units: what confines
the processes is our own jail, and what systemd sees of it is the one installed unit, whose own score stands below.

exit status: 0 within the budgets; 1 over (not with --no-judge); 2 trouble
"""


class Row(msgspec.Struct, frozen=True):
    """One kind. `index` is the sum of `parts`; `systemd` is None with nobody to ask, `budget` where none is set."""

    kind: str
    index: float
    parts: dict[str, float]
    systemd: Score | None
    budget: float | None
    note: str = ""

    @property
    def is_over(self) -> bool:
        """Whether it is more exposed than it may be."""
        return self.systemd is not None and self.budget is not None and self.systemd.exposure > self.budget


class Scores(msgspec.Struct, frozen=True):
    """All that is told. `installed` is the score of the unit file `unit`, None where there is none or nobody to ask.

    `systemd` is the version of systemd-analyze, "" without one; `shifts` is None unless asked for."""

    rows: list[Row]
    unit: str
    installed: Score | None
    systemd: str
    surveyed: dict[str, float]
    shifts: "list[Shift] | None"

    @property
    def over(self) -> list[str]:
        """Kinds that are over their budget."""
        return [row.kind for row in self.rows if row.is_over]


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the sub-command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--sensitivity", action="store_true", help="how the ranking changes with each weight by half")
    parser.add_argument("--no-judge", action="store_true", help="exit status 0 whatever the scores are")
    parser.add_argument("--unit", metavar="FILE", type=Path, help="the installed unit, if it is not found by itself")
    add_policy_options(parser)
    parser.set_defaults(carry_out=carried_out(_score))


def _score(options: argparse.Namespace) -> int:
    from supervisor.cli.policy_score_text import lines

    scores = _ask(options)
    if options.json:
        data = msgspec.to_builtins({name: getattr(scores, name) for name in Scores.__struct_fields__})
        print(json.dumps({**data, "over": scores.over}))
    else:
        print("\n".join(lines(scores)))
    return EXIT_FOUND if scores.over and not options.no_judge else EXIT_WELL


def _ask(options: argparse.Namespace) -> Scores:
    from policy.exposure import reach_of, read_weights, sensitivity
    from policy.installed import facts, here
    from supervisor.cli.policy_export import units

    edition = chosen_policy(options).edition
    weights = read_weights()
    reaches = {kind: reach_of(each, weights) for kind, each in facts(here(edition, Layout().lib)).items()}
    analyze = policy_systemd.program()
    told = policy_systemd.scores(analyze, units(edition)) if analyze else {}
    unit = options.unit or _installed_unit()
    return Scores(
        sorted(_rows(reaches, weights, told), key=lambda row: row.index),
        str(unit or ""),
        policy_systemd.scores(analyze, {UNIT: unit.read_text("utf-8")})[UNIT] if analyze and unit else None,
        policy_systemd.version(analyze) if analyze else "",
        weights.surveyed,
        sensitivity(reaches, weights) if options.sensitivity else None,
    )


def _rows(reaches: "Mapping[str, Reach]", weights: "Weights", told: Mapping[str, Score]) -> list[Row]:
    from policy.exposure import index
    from policy.lint import RESIDENT, TENANTS
    from policy.units.export import TENANT, unit_name

    rows = []
    for kind, reach in reaches.items():
        parts = index(reach, weights)
        budget, note = weights.budgets.get(kind), ""
        if kind in TENANTS:
            note = f"{TENANT}, with the machine in its reach by design: no budget"
        elif budget is None and kind not in RESIDENT:
            budget = weights.budgets["worker"]
        rows.append(Row(kind, sum(parts.values()), parts, told.get(unit_name(kind)), budget, note))
    return rows


def _installed_unit() -> Path | None:
    """The unit that is installed; in a clone the one that would be."""
    from policy.load import own_folder

    packaged = Path(own_folder()).parent / "packaging" / "systemd"
    return next((folder / UNIT for folder in (packaged, *map(Path, UNIT_FOLDERS)) if (folder / UNIT).is_file()), None)
