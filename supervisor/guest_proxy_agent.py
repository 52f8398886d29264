# SPDX-License-Identifier: Apache-2.0
"""Owns the question whether Azure's Guest Proxy Agent holds the secure channel on this machine.

Runs in the supervisor: file names and the kernel's list of listening sockets only; asks no program.
"""

import os

PROGRAM = "/usr/sbin/azure-proxy-agent"
UNITS = ("azure-proxy-agent.service", "GuestProxyAgent.service")
FOLDERS = ("/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
# It has connections to the host come to 127.0.0.1, port 3080.
SOCKETS, LISTENER, LISTENS, ROOT = "/proc/net/tcp", "0100007F:0C08", "0A", "0"
ADDRESS_AT, STATE_AT, UID_AT = 1, 3, 7


class GuestProxyAgent:
    """What can be told of it. Its files are looked for once, at the start, while this process can see them."""

    def __init__(self, root: str = "", sockets: str = SOCKETS) -> None:
        self._installed = installed(root)
        self._sockets = sockets

    def why(self) -> str:
        """What says that it is there, for people; empty when nothing does."""
        return self._installed or listens(self._sockets)


def installed(root: str = "") -> str:
    """Its unit, unless it is masked; else its program."""
    units = (f"{folder}/{unit}" for unit in UNITS for folder in FOLDERS)
    # The first that is there is the one that counts for systemd.
    unit = next((path for path in units if os.path.lexists(f"{root}{path}")), "")
    if unit:
        return "" if _is_masked(f"{root}{unit}") else unit
    return PROGRAM if os.path.exists(f"{root}{PROGRAM}") else ""


def listens(sockets: str = SOCKETS) -> str:
    """Its listening socket, if it is root's: anybody else may listen there as well."""
    try:
        with open(sockets, encoding="ascii") as lines:
            rows = [line.split() for line in lines]
    except OSError:
        return ""
    wanted = (LISTENER, LISTENS, ROOT)
    found = any(len(row) > UID_AT and (row[ADDRESS_AT], row[STATE_AT], row[UID_AT]) == wanted for row in rows)
    return "a listener of root's at 127.0.0.1:3080" if found else ""


def _is_masked(unit: str) -> bool:
    """As systemd has it: a link to the null device, or a file of no content."""
    try:
        return os.readlink(unit) == os.devnull if os.path.islink(unit) else os.stat(unit).st_size == 0
    except OSError:
        return False
