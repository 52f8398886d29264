# SPDX-License-Identifier: Apache-2.0
"""The record of a run that must not happen twice: read back, from another boot, and when it makes no sense."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc.errors import CommitError
from workers.committers import once
from workers.committers.once import Once

BOOT, ANOTHER = "0b6e9d3c-2f51-4c0e-8a7d-5e4f3c2b1a09", "f1e2d3c4-b5a6-4978-8695-a4b3c2d1e0f9"


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    opened = os.open(tmp_path / "record", os.O_RDWR | os.O_CREAT, 0o600)
    yield opened
    os.close(opened)


def test_the_stages_follow_one_another(descriptor: int) -> None:
    record = Once(descriptor, BOOT)
    assert record.stage == ""
    record.note("begun")
    assert Once(descriptor, BOOT).stage == "begun"
    record.note("started")
    assert Once(descriptor, BOOT).stage == "started"
    assert Once(descriptor, ANOTHER).stage == "in another boot"


@pytest.mark.parametrize("content", [b"\0" * 40, b"begun", b"\xff", f"nonsense {BOOT}\n".encode(), b" "])
def test_a_record_that_makes_no_sense_is_never_one_of_nothing_done(descriptor: int, content: bytes) -> None:
    os.pwrite(descriptor, content, 0)
    assert Once(descriptor, BOOT).stage in {"started", "in another boot"}


def test_it_knows_the_kernels_boot_and_asks_for_one_descriptor(descriptor: int) -> None:
    once.from_order((descriptor,)).note("begun")
    assert once.BOOT_ID.read_text().strip() in os.pread(descriptor, 100, 0).decode()
    with pytest.raises(CommitError, match="0 descriptors"):
        once.from_order(())
