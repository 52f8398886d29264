# SPDX-License-Identifier: Apache-2.0
"""Owns the distribution's package of its own agent, as set-up has unpacked it; it is never installed and never changed.

Runs in the test or the command. It fetches nothing.
"""

from dataclasses import dataclass
from pathlib import Path

from tests.fabric.lab import PROJECT, PlacedFile

FOLDER = PROJECT / ".venv/other-agent"
# The image of the test brings its own configuration; what is documentation or a unit is not used.
LEFT_OUT = ("/etc/", "/usr/share/")


class NoPackage(Exception):
    """The package is not here; the text says why, and what to do."""


@dataclass(frozen=True)
class Package:
    """Its name and version, and where it was unpacked (with the Python packages that it needs)."""

    name: str
    version: str
    root: Path

    def files(self) -> dict[str, PlacedFile]:
        """What it puts on a machine, by path, as it is in the package."""
        found = (path for path in self.root.rglob("*") if path.is_file())
        placed = {_place(path.relative_to(self.root)): path for path in found}
        return {
            place: PlacedFile(path.read_bytes(), path.stat().st_mode & 0o777)
            for place, path in placed.items()
            if not place.startswith(LEFT_OUT)
        }


def find(folder: Path = FOLDER) -> Package:
    """The package. Raises NoPackage."""
    noted = folder / "PACKAGE"
    if not noted.exists():
        reason = folder / "REASON"
        why = reason.read_text().strip() if reason.exists() else "set-up has not run since it fetches it"
        raise NoPackage(f"the distribution's own agent is not in {folder}: {why}; `make setup` tries again")
    name, version = noted.read_text().split()
    return Package(name, version, folder / "unpacked")


def _place(relative: Path) -> str:
    """Where a file of the package belongs: packages may still say /lib where that is a link to /usr/lib."""
    top = Path("/", relative.parts[0])
    return str(top.resolve().joinpath(*relative.parts[1:]))
