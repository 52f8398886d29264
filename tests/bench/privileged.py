# SPDX-License-Identifier: Apache-2.0
"""Measures how much of our Python is in each process that holds a capability: `python -m tests.bench.privileged`.

Every kind is started for real and tells, locked and ready, which modules it has; --write puts the table into a file.
"""

import argparse
import ast
import io
import sys
import tokenize
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from policy.load import load
from policy.profile import Profile
from tests.bench.samples import Budget, Row
from tests.fabric.lab import PROJECT, Lab
from tests.fabric.waiting import until
from tests.jail.mutants import Mutation
from tests.jail.rigged import Rig, place_bait, place_policy, policy_sources
from tests.oracle.package import FOLDER

MOST_LINES = 3500
OURS = ("ipc", "policy", "supervisor", "workers")
BEGINS, ENDS = "<!-- privileged lines -->", "<!-- /privileged lines -->"
_NAMES = f'" ".join(sorted(name for name in sys.modules if name.partition(".")[0] in {OURS!r}))'
TELLING = (
    Mutation(
        "supervisor.spawner.child",
        "    main(channel, lambda: seccomp.load(locked_filter, all_threads=True))",
        "    def lock():\n        seccomp.load(locked_filter, all_threads=True)\n"
        f"        os.write(LOG, ('modules ' + sys.kind + ' ' + {_NAMES} + chr(10)).encode())\n    main(channel, lock)",
    ),
    Mutation(
        "supervisor.spawner.child",
        "    confine(confinement)\n    gc.enable()\n",
        "    sys.kind = profile.kind\n    confine(confinement)\n    gc.enable()\n",
    ),
    Mutation(
        "supervisor.spawner.service",
        "        status = self._serve()\n",
        f"        say('modules spawner ' + {_NAMES})\n        status = self._serve()\n",
    ),
)
# Where the distribution's waagent has its modules; nothing is counted where that was not unpacked.
OTHER_AGENT = FOLDER / "unpacked/usr/lib/python3/dist-packages/azurelinuxagent"
# What a test's spawner has loaded beyond the agent's own.
_NOT_THE_SPAWNERS = ("supervisor.main",)


class Size(NamedTuple):
    """Lines of code (neither blank, comment nor docstring), and lines in all."""

    code: int
    lines: int


def measured() -> dict[str, Size]:
    """Kind -> how much of our own Python its process has loaded, for every kind that holds a capability."""
    kinds = {compiled.profile.kind: compiled.profile for compiled in load().programs}
    with Lab() as lab:
        place_bait(lab)
        with Rig(lab, place_policy(lab, "plain", policy_sources()), TELLING) as rig:
            started = [kind for kind, profile in kinds.items() if profile.is_worker and _privileged(profile, kinds)]
            said = [line for kind in started for line in rig.ask("start", kind=kind)["log"]]
            holders = [kind for kind, profile in kinds.items() if profile.capabilities]
            return {kind: _size(_told(rig, kind, said)) for kind in holders}


def measure(_: int) -> list[Row]:
    """For the table of figures."""
    budget = Budget(MOST_LINES, binding=True)
    most, size = max(measured().items(), key=lambda item: item[1].code)
    return [Row(f"most code in a process with a capability ({most})", "lines", (float(size.code),), budget)]


def table(sizes: Mapping[str, Size]) -> str:
    """As Markdown, largest first."""
    rows = sorted(sizes.items(), key=lambda item: -item[1].code)
    lines = ["| process with a capability | lines of code | lines in all |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {kind} | {size.code:,} | {size.lines:,} |" for kind, size in rows)])


def code_lines(source: bytes) -> int:
    """Lines with code in them: blank ones, comments and docstrings don't count."""
    documented: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                documented.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    nothing = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    nothing |= {tokenize.ENCODING, tokenize.ENDMARKER}
    tokens = (token for token in tokenize.tokenize(io.BytesIO(source).readline) if token.type not in nothing)
    return len({line for token in tokens for line in range(token.start[0], token.end[0] + 1)} - documented)


def main() -> int:
    """Print the table, and write it where asked to; 1 when a process has more than it may."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.privileged")
    parser.add_argument("--write", type=Path, help=f"the file that has the table between {BEGINS} and {ENDS}")
    chosen = parser.parse_args()
    sizes = measured()
    text = table(sizes)
    print(text)
    other = _counted(sorted(OTHER_AGENT.rglob("*.py")))
    print(f"the distribution's waagent, all in one process: {other.code:,} lines of code, {other.lines:,} in all")
    if chosen.write:
        before, _, rest = chosen.write.read_text(encoding="utf-8").partition(BEGINS)
        after = rest.partition(ENDS)[2]
        chosen.write.write_text(f"{before}{BEGINS}\n{text}\n{ENDS}{after}", encoding="utf-8")
    return int(max(size.code for size in sizes.values()) > MOST_LINES)


def _privileged(profile: Profile, kinds: Mapping[str, Profile]) -> bool:
    """Whether it, or who runs programs for it, holds a capability."""
    return bool(profile.capabilities or (profile.programs and kinds[profile.programs].capabilities))


def _told(rig: Rig, kind: str, said: list[str]) -> list[str]:
    """The modules that the process of this kind told of, to `said` or since."""
    mark = f"modules {kind} "

    def line() -> str:
        said.extend(rig.ask("status")["log"])
        return next((line for line in (*said, *rig.log().splitlines()) if mark in line), "")

    return until(f"what {kind} has loaded", line).partition(mark)[2].split()


def _size(modules: Iterable[str]) -> Size:
    return _counted(_file(name) for name in modules if name not in _NOT_THE_SPAWNERS)


def _counted(files: Iterable[Path]) -> Size:
    sources = [path.read_bytes() for path in files]
    return Size(sum(map(code_lines, sources)), sum(source.count(b"\n") for source in sources))


def _file(module: str) -> Path:
    path = PROJECT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


if __name__ == "__main__":
    sys.exit(main())
