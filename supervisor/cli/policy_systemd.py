# SPDX-License-Identifier: Apache-2.0
"""Owns asking systemd-analyze how exposed units are: a program of the machine's, started with unit files in a folder.

It reads files only: nothing is loaded into a running systemd, and none need run.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

PROGRAM, SEARCHED = "systemd-analyze", "/usr/bin:/bin:/usr/local/bin"
MISSING = "systemd-analyze is not installed (package systemd): its scores are left out"
PATIENCE_S = 60
_OVERALL = re.compile(r"Overall exposure level for (\S+): (\d+(?:\.\d+)?) (\w+)")


class Score(msgspec.Struct, frozen=True):
    """What systemd-analyze says: 0 (best) to 10, and its word for that."""

    exposure: float
    word: str


def program() -> str | None:
    """Where it is, None if this machine has none."""
    return shutil.which(PROGRAM, path=SEARCHED)


def version(analyze: str) -> str:
    """Its version: scores of two versions are not the same measure."""
    told = _run([analyze, "--version"]).stdout.split()
    return told[1] if len(told) > 1 else "unknown"


def scores(analyze: str, units: Mapping[str, str]) -> dict[str, Score]:
    """The score of each of `units`, given by file name and text. ValueError when it does not tell one."""
    with tempfile.TemporaryDirectory(prefix="agent-supervisor-units-") as folder:
        files = []
        for name, text in units.items():
            files.append(f"{folder}/{name}")
            Path(files[-1]).write_text(text, encoding="utf-8")
        done = _run([analyze, "security", "--offline=true", "--no-pager", *files])
    told = {name: Score(float(number), word) for name, number, word in _OVERALL.findall(done.stdout)}
    if missing := sorted(set(units) - set(told)):
        raise ValueError(f"{PROGRAM} has no score for {', '.join(missing)}: {done.stderr.strip()[-300:]}")
    # What it could not read it left out, and the score would be somebody else's.
    if done.stderr.strip():
        raise ValueError(f"{PROGRAM} complains: {done.stderr.strip()[:300]}")
    return told


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": SEARCHED, "LC_ALL": "C.UTF-8", "SYSTEMD_LOG_LEVEL": "warning", "HOME": os.sep}
    try:
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, timeout=PATIENCE_S,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ValueError(f"{PROGRAM} did not answer within {PATIENCE_S} s") from None
