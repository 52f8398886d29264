# SPDX-License-Identifier: Apache-2.0
"""Owns which VM this is: the id that the firmware shows, in the host's byte order, and whether another id is the same.

Runs in the supervisor, without a capability: it reads two small files of the kernel's and writes nothing.
"""

import os
import re
from typing import NamedTuple

from ipc.errors import InputError

PRODUCT_UUID = "/sys/class/dmi/id/product_uuid"
# The firmware's table of the system, as it is: what dmidecode would ask, without starting it.
SYSTEM_TABLE = "/sys/firmware/dmi/entries/1-0/raw"
TABLE_TYPE, UUID_AT, UUID_BYTES = 1, 8, 16
BOOT_ID = "/proc/sys/kernel/random/boot_id"
# What stands for the id of a VM that shows none.
UNKNOWN = "unknown"
# A sysctl refuses to be read by a buffer of megabytes; the table has a few hundred bytes.
LARGEST = 4096
BOOT_ID_BYTES = 64
UUID = re.compile(r"[0-9A-Fa-f]{8}-([0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")


class VmId(NamedTuple):
    """This VM's id in the host's byte order, upper case; empty with a `problem` when it can't be read.

    `boot` is the kernel's id of this boot."""

    value: str
    problem: str = ""
    boot: str = ""

    @property
    def is_known(self) -> bool:
        return bool(self.value)

    @property
    def name(self) -> str:
        """What the journal calls it: without an id, another one at every boot."""
        return self.value or f"{UNKNOWN} {self.boot}"

    @property
    def in_marker(self) -> str:
        """What the marker file holds."""
        return self.value or UNKNOWN


def vm_id(root: str = "") -> VmId:
    """The SMBIOS id (provisioning.md 2), from the kernel's own text or else from the firmware's table."""
    problems = []
    for path, understand in ((PRODUCT_UUID, _from_text), (SYSTEM_TABLE, _from_table)):
        try:
            return VmId(understand(_read(f"{root}{path}", LARGEST)))
        except OSError as error:
            problems.append(f"{path}: {error.strerror}")
        except InputError as error:
            problems.append(f"{path} {error.problem}")
    return VmId("", "; ".join(problems))


def boot_id(root: str = "") -> str:
    """The kernel's id of this boot."""
    return _read(f"{root}{BOOT_ID}", BOOT_ID_BYTES).decode("ascii", "replace").strip()


def same_vm(stored: str, current: str) -> bool:
    """Whether a stored id is this VM's. Letter case does not count; old agents stored it in the other byte order."""
    theirs, mine = stored.strip().lower(), current.strip().lower()
    return bool(mine) and theirs in (mine, swapped(mine) if UUID.fullmatch(mine) else mine)


def is_another(begun: str, current: VmId) -> bool:
    """Whether the journal's word `begun` names another VM for certain: both ids are known, and they differ."""
    return bool(begun) and not begun.startswith(UNKNOWN) and current.is_known and not same_vm(begun, current.value)


def is_this(name: str, current: VmId) -> bool:
    """Whether the journal's word `name` is this VM; one without an id is the same in every boot, as far as we know."""
    return name == current.name or (not current.is_known and name.startswith(UNKNOWN))


def swapped(uuid: str) -> str:
    """The UUID with the bytes of its first three groups in reverse order."""
    first, second, third, *rest = uuid.split("-")
    return "-".join([*(bytes.fromhex(group)[::-1].hex() for group in (first, second, third)), *rest])


def _from_text(content: bytes) -> str:
    text = content.decode("ascii", "replace").strip()
    if not UUID.fullmatch(text):
        raise InputError(PRODUCT_UUID, "holds no UUID")
    return swapped(text).upper()


def _from_table(content: bytes) -> str:
    """The UUID as it lies in the table: the host's byte order is that of the bytes (SMBIOS 2.6 and later)."""
    raw = content[UUID_AT : UUID_AT + UUID_BYTES]
    if content[:1] != bytes([TABLE_TYPE]) or len(raw) < UUID_BYTES or raw in {b"\0" * UUID_BYTES, b"\xff" * UUID_BYTES}:
        raise InputError(SYSTEM_TABLE, "holds no UUID")
    digits = raw.hex().upper()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _read(path: str, most_bytes: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, most_bytes)
    finally:
        os.close(descriptor)
