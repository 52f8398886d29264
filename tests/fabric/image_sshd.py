# SPDX-License-Identifier: Apache-2.0
"""Owns a real sshd for a lab: the distribution's program, and the account that it insists on; nothing is installed.

Runs in tests, outside the lab. `make setup` unpacks the program where the machine has none.
"""

from pathlib import Path

from tests.fabric.lab import PROJECT, LabError, PlacedFile

SSHD = "/usr/sbin/sshd"
UNPACKED = PROJECT / ".venv/sshd/usr/sbin/sshd"
ACCOUNT = b"sshd:x:990:65534::/run/sshd:/usr/sbin/nologin\n"


def sshd_files() -> dict[str, PlacedFile]:
    """What an image with openssh-server has beside others. LabError without one to take from."""
    source = next((path for path in (UNPACKED, Path(SSHD)) if path.is_file()), None)
    if source is None:
        raise LabError(
            "there is no sshd to test with: run `make setup` as root, with the distribution's packages at hand"
        )
    accounts = Path("/etc/passwd").read_bytes()
    if b"\nsshd:" not in accounts:
        accounts += ACCOUNT
    return {SSHD: PlacedFile(source.read_bytes(), 0o755), "/etc/passwd": PlacedFile(accounts)}
