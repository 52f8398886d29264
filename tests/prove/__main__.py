# SPDX-License-Identifier: Apache-2.0
"""`python -m tests.prove`: the matrix of controls and cases, from a lab; with --write it and the list of attacks as
documents in docs/. As root."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from supervisor.prove.catalogue import read_catalogue
from supervisor.prove.handler_cases import read_cases
from tests.fabric.lab import PROJECT, Lab
from tests.prove import handler_controls
from tests.prove.documents import attacks_document, matrix_document

ATTACKS, MATRIX = "docs/attacks.md", "docs/attack-matrix.md"


def measured(lab: Lab, *controls: str) -> dict[str, dict[str, Any]]:
    """The matrix, or those of its rows."""
    done = lab.run(
        [sys.executable, "-m", "tests.prove.matrix", *controls], cwd=str(PROJECT), cgroup="matrix", timeout_s=400
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    matrix: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return matrix


def measured_of_handlers(controls: list[str]) -> dict[str, dict[str, Any]]:
    """The matrix of handlers' classes, or those of its rows: a lab and two seconds each."""
    with handler_controls.lab() as lab:
        return {
            name: {
                "class": handler_controls.CONTROLS[name].handler_class,
                "behind": handler_controls.CONTROLS[name].behind,
                "flips": handler_controls.alone_stops(lab, name),
            }
            for name in controls
        }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.prove", description=__doc__)
    parser.add_argument(
        "controls", nargs="*", metavar="CONTROL", help="measure these only, and leave other rows as they are"
    )
    parser.add_argument("--write", action="store_true", help=f"write {ATTACKS} and {MATRIX}")
    parser.add_argument("--attacks", action="store_true", help=f"with --write: {ATTACKS} alone, which needs no lab")
    chosen = parser.parse_args()
    if chosen.write:
        Path(PROJECT, ATTACKS).write_text(attacks_document(read_catalogue(), read_cases()), encoding="utf-8")
        if chosen.attacks:
            return 0
    of_handlers = [name for name in handler_controls.CONTROLS if name in chosen.controls or not chosen.controls]
    others = [name for name in chosen.controls if name not in of_handlers]
    handlers = measured_of_handlers(of_handlers) if of_handlers else {}
    rows: dict[str, dict[str, Any]] = {}
    if others or not chosen.controls:
        with Lab() as lab:
            rows = measured(lab, *others)
    text = matrix_document(rows, handlers)
    if chosen.write:
        old = Path(PROJECT, MATRIX).read_text(encoding="utf-8") if chosen.controls else text
        Path(PROJECT, MATRIX).write_text(with_rows(old, text), encoding="utf-8")
    else:
        sys.stdout.write(text)
    return 0


def with_rows(old: str, new: str) -> str:
    """The document `old` with the rows that `new` has."""
    rows = {line.split(" | ")[0]: line for line in new.splitlines() if line.startswith("| ")}
    return "".join(f"{rows.get(line.split(' | ')[0], line)}\n" for line in old.splitlines())


if __name__ == "__main__":
    sys.exit(main())
