# SPDX-License-Identifier: Apache-2.0
"""Hostile ISO9660 media: loops, extents past the end, sizes of 4 GiB, cut off anywhere; refused or read rightly."""

import lzma
import os
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc.errors import InputError
from tests.fuzz.iso_mutations import Image, survey
from tests.fuzz.medium import Medium
from workers.parser import bounds, iso
from workers.parser.blocks import Blocks
from workers.parser.main import BUDGET_BYTES, OVF_NAME

DATA = Path(__file__).resolve().parents[2] / "data"
OVF = (DATA / "udf" / "ovf-env.xml").read_bytes()
SEEDS = ("xorriso-both", "xorriso-plain", "makefs-rock-ridge")
ALL = 0xFFFFFFFF


@pytest.fixture(params=SEEDS)
def image(request: pytest.FixtureRequest) -> Iterator[Image]:
    medium = Medium(request.param, lzma.decompress((DATA / "iso" / f"{request.param}.iso.xz").read_bytes()))
    yield survey(medium)
    os.close(medium.descriptor)


def read(medium: Medium) -> bytes:
    """What the reader gives, within a second and 8 MiB."""
    tracemalloc.start()
    before = time.thread_time()
    try:
        blocks = Blocks(medium.descriptor, medium.size_bytes, BUDGET_BYTES)
        return iso.read_file(blocks, OVF_NAME, bounds.MAX_DOCUMENT_BYTES)
    finally:
        took, most = time.thread_time() - before, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert took < 1
        assert most < 8 * 1024 * 1024


def both(value: int) -> bytes:
    return value.to_bytes(4, "little") + value.to_bytes(4, "big")


def files(image: Image) -> list[int]:
    """The records of the document, in every name space."""
    length = both(len(OVF))
    return [at for at in image.records if image.medium.read(at + 10, 8) == length]


@pytest.mark.parametrize(
    ("offset", "value", "problem"),
    [
        (2, both(ALL), "of a medium of"),
        (10, both(ALL), "is 4294967295 bytes long, more than the 1048576 allowed"),
        (10, both(bounds.MAX_DOCUMENT_BYTES + 1), "bytes long, more than"),
        (10, both(bounds.MAX_DOCUMENT_BYTES), "of a medium of"),
        (25, b"\x80", "goes on in a further extent"),
        (26, b"\x01", "is interleaved"),
        (0, b"\x21", "is cut off|there is no such file"),
        (32, b"\xff", "is cut off"),
        (25, b"\x02", "there is no such file"),
    ],
)
def test_a_file_that_lies_about_itself_is_refused(image: Image, offset: int, value: bytes, problem: str) -> None:
    for at in files(image):
        image.medium.write(at + offset, value)
    with pytest.raises(InputError, match=problem):
        read(image.medium)
    image.medium.restore()
    assert read(image.medium) == OVF


def test_folders_that_hold_one_another_are_not_walked(image: Image) -> None:
    root = image.medium.read(image.volumes[0] + 158, 16)
    for at in image.records:
        if image.medium.number("<B", at + 25) & 2:
            image.medium.write(at + 2, root)
    assert read(image.medium) == OVF


def test_continuations_of_rock_ridge_that_lead_to_themselves_end(image: Image) -> None:
    entries = [at for at in image.entries if image.medium.read(at, 2) == b"PX"]
    for at in entries:
        length = image.medium.number("<B", at + 2)
        sector, start = divmod(at, 2048)
        image.medium.write(at, b"CE" + bytes([length, 1]) + both(sector) + both(start) + both(length))
    if not entries:
        assert read(image.medium) == OVF
        return
    with pytest.raises(InputError, match="Rock Ridge continuation: more than 8 of one entry"):
        read(image.medium)


def test_a_continuation_of_4_gib_is_refused(image: Image) -> None:
    entries = [at for at in image.entries if image.medium.read(at, 2) == b"PX"]
    for at in entries:
        image.medium.write(at, b"CE\x24\x01" + both(20) + both(0) + both(ALL))
    if entries:
        with pytest.raises(InputError, match="Rock Ridge continuation: is 4294967295 bytes long"):
            read(image.medium)


@pytest.mark.parametrize(
    ("at", "value", "problem"),
    [
        (6, b"\xff", "volume descriptors: no primary one"),
        (0, b"\0", "volume descriptors: no primary one"),
        (1, b"CDROM", "volume descriptor, sector 16: is none"),
        (128, b"\x01\x10", "blocks of 4097 bytes"),
        (166, both(ALL), "root directory: is 4294967295 bytes long, more than"),
        (158, both(ALL), "of a medium of"),
        (188, b"\xff", "root directory: is cut off"),
    ],
)
def test_a_volume_descriptor_that_lies_is_refused(image: Image, at: int, value: bytes, problem: str) -> None:
    for volume in image.volumes[:1]:
        image.medium.write(volume + at, value)
    if at == 6:
        image.medium.write(image.volumes[0], b"\2")  # a supplementary one that is not Joliet's
    with pytest.raises(InputError, match=problem):
        read(image.medium)


def test_an_image_may_end_anywhere_and_nothing_wrong_is_ever_read(image: Image) -> None:
    refused = 0
    for end in (*image.volumes, *image.records, *image.entries, *range(2048, image.medium.full_bytes, 20_000)):
        for more in (0, 1, 40):
            image.medium.size_bytes = end + more
            try:
                assert read(image.medium) == OVF
            except InputError:
                refused += 1
    assert refused > 30
