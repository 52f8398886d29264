# SPDX-License-Identifier: Apache-2.0
"""Owns the distribution's firewalld as files for a lab: packaging/setup.sh unpacks it, no machine has it installed."""

from tests.fabric.lab import PROJECT, LabError, PlacedFile

UNPACKED = PROJECT / ".venv/firewalld/unpacked"
SERVICE = "firewalld.service"
LEFT_OUT = ("/usr/share/doc/", "/usr/share/locale/", "/usr/share/man/", "/usr/share/icons/", "/etc/init.d/")
# What the package's own scripts choose at its installation.
ACTIONS = "/usr/share/polkit-1/actions/org.fedoraproject.FirewallD1"


def firewalld_files() -> dict[str, bytes | PlacedFile]:
    """Every file of it, where its package would have it."""
    if not (UNPACKED.parent / "PACKAGE").is_file():
        raise LabError(f"{UNPACKED} has no firewalld: packaging/setup.sh says why")
    files: dict[str, bytes | PlacedFile] = {}
    for path in UNPACKED.rglob("*"):
        place = f"/{path.relative_to(UNPACKED)}"
        if path.is_symlink() or not path.is_file() or place.startswith(LEFT_OUT):
            continue
        # /lib and /sbin are links into /usr.
        place = f"/usr{place}" if place.startswith(("/lib/", "/sbin/", "/bin/")) else place
        files[place] = PlacedFile(path.read_bytes(), path.stat().st_mode & 0o755)
    files[f"{ACTIONS}.policy"] = files[f"{ACTIONS}.server.policy.choice"]
    return files
