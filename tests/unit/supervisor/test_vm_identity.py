# SPDX-License-Identifier: Apache-2.0
"""Which VM this is, from files as kernels show them; and whether a stored id is this VM's."""

from pathlib import Path

import pytest

from supervisor import vm_identity
from supervisor.marker import Marker
from supervisor.vm_identity import VmId, is_another, is_this

UUID = "a1b2c3d4-e5f6-0718-293a-4b5c6d7e8f90"
SWAPPED = "D4C3B2A1-F6E5-1807-293A-4B5C6D7E8F90"
# A system table: type 1, its length, its handle, four references to strings, then the id as it lies in memory.
TABLE = bytes([1, 27, 1, 0, 1, 2, 3, 4]) + bytes.fromhex(SWAPPED.replace("-", "")) + b"\6\0\0Maker\0Product\0\0"
TEXT_PATH, TABLE_PATH = "sys/class/dmi/id/product_uuid", "sys/firmware/dmi/entries/1-0/raw"


def put(root: Path, path: str, content: bytes) -> None:
    (root / path).parent.mkdir(parents=True)
    (root / path).write_bytes(content)


def test_the_id_is_put_in_the_hosts_byte_order(tmp_path: Path) -> None:
    put(tmp_path, TEXT_PATH, f"{UUID}\n".encode())
    put(tmp_path, TABLE_PATH, b"not looked at")
    assert vm_identity.vm_id(str(tmp_path)) == VmId(SWAPPED)


@pytest.mark.parametrize("text", [None, b"Not Settable\n", b"\xff\xfe"])
def test_without_the_kernels_text_the_firmwares_table_counts(tmp_path: Path, text: bytes | None) -> None:
    """Both are the same: the kernel's text is the table's bytes, their first groups turned round."""
    if text is not None:
        put(tmp_path, TEXT_PATH, text)
    put(tmp_path, TABLE_PATH, TABLE)
    assert vm_identity.vm_id(str(tmp_path)) == VmId(SWAPPED)


@pytest.mark.parametrize(
    "table", [b"", TABLE[:23], b"\2" + TABLE[1:], TABLE[:8] + b"\0" * 16, TABLE[:8] + b"\xff" * 16 + TABLE[24:]]
)
def test_an_id_that_can_not_be_read_is_told(tmp_path: Path, table: bytes) -> None:
    put(tmp_path, TABLE_PATH, table)
    missing = "/sys/class/dmi/id/product_uuid: No such file or directory"
    assert vm_identity.vm_id(str(tmp_path)).problem == f"{missing}; /{TABLE_PATH} holds no UUID"
    (tmp_path / TABLE_PATH).unlink()
    assert vm_identity.vm_id(str(tmp_path)).problem == f"{missing}; /{TABLE_PATH}: No such file or directory"


@pytest.mark.parametrize(
    ("stored", "current", "same"),
    [
        (SWAPPED, SWAPPED, True),
        (f"{SWAPPED.lower()}\n", SWAPPED, True),
        (UUID, SWAPPED, True),
        (UUID.upper(), SWAPPED.lower(), True),
        ("", SWAPPED, False),
        ("", "", False),
        (SWAPPED.replace("D4", "D5"), SWAPPED, False),
        ("odd", "odd", True),
    ],
)
def test_the_same_vm(stored: str, current: str, same: bool) -> None:
    assert vm_identity.same_vm(stored, current) is same


def test_a_vm_without_an_id_is_another_one_at_every_boot() -> None:
    one, other = VmId("", "why", "boot 1"), VmId("", "why", "boot 2")
    assert (one.is_known, one.in_marker, one.name == other.name) == (False, "unknown", False)
    assert VmId(SWAPPED, boot="boot 1").name == VmId(SWAPPED, boot="boot 2").name == SWAPPED


def test_the_boot_has_an_id_of_its_own() -> None:
    """From the kernel itself, which hands it out to small buffers only."""
    assert vm_identity.UUID.fullmatch(vm_identity.boot_id())


def test_a_vm_without_an_id_is_the_same_in_every_boot_and_never_another_for_certain() -> None:
    unknown, known = VmId("", "none", "boot-2"), VmId("11111111-2222-3333-4444-555555555555")
    assert is_this("unknown boot-1", unknown)
    assert not is_this("unknown boot-1", known)
    assert is_this(known.value, known)
    assert not is_another("unknown boot-1", unknown)
    assert not is_another("", known)
    assert not is_another(known.value.lower(), known)
    assert is_another("99999999-2222-3333-4444-555555555555", known)


def test_a_marker_that_can_not_be_read_is_there(tmp_path: Path) -> None:
    marker = Marker(str(tmp_path), VmId("11111111-2222-3333-4444-555555555555"))
    assert marker.read() is None
    (tmp_path / "provisioned").write_bytes(b"\xff\xfe\x00")
    assert marker.read() == ""
