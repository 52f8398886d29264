# SPDX-License-Identifier: Apache-2.0
"""Hostile UDF volumes, every checksum right: each is refused with what is wrong and where, soon and in little memory.

`tests/fuzz` tries them by the million; here are those that somebody would write on purpose.
"""

import itertools
import lzma
import os
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ipc.errors import InputError
from tests.fabric.udf_writer import UdfForm, make_udf
from tests.fuzz.medium import Medium
from tests.fuzz.udf_mutations import Image, sign, survey
from workers.parser import bounds, udf
from workers.parser.blocks import Blocks
from workers.parser.main import BUDGET_BYTES, OVF_NAME

DATA = Path(__file__).resolve().parents[2] / "data" / "udf"
OVF = (DATA / "ovf-env.xml").read_bytes()
LONGEST_S = 0.5
MOST_BYTES = 8 * 1024 * 1024  # of Python's memory: a document of full length may be there twice, in pieces and whole

ANCHOR, POINTER, PARTITION, VOLUME, FILE_SET, NAME, CONTINUATION, FILE = 2, 3, 5, 6, 256, 257, 258, 261

Open = Callable[[bytes], Image]


def read(medium: Medium) -> bytes:
    """What the reader gives, within its bounds of time and memory."""
    tracemalloc.start()
    before = time.thread_time()
    try:
        return udf.read_file(Blocks(medium.descriptor, medium.size_bytes, BUDGET_BYTES), (OVF_NAME,), 1 << 20)
    finally:
        took, most = time.thread_time() - before, tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert took < LONGEST_S
        assert most < MOST_BYTES


@pytest.fixture
def opened() -> Iterator[Open]:
    made: list[Medium] = []

    def make(image: bytes) -> Image:
        made.append(Medium("image", image))
        return survey(made[-1])

    yield make
    for medium in made:
        os.close(medium.descriptor)


def change(image: Image, kind: int, *changes: tuple[int, int, int]) -> None:
    """In every descriptor of `kind` the numbers (offset, width, value); signed again."""
    for each in (found for found in image.descriptors if found.kind == kind):
        for offset, width, value in changes:
            image.medium.write(each.at + offset, value.to_bytes(width, "little"))
        sign(image.medium, each.at)


ALL = 0xFFFFFFFF
FULL = UdfForm(fragments=3, continued=True)
CASES: dict[str, tuple[UdfForm, int, list[tuple[int, int, int]], str]] = {
    "anchor past the end": (FULL, ANCHOR, [(20, 4, ALL), (28, 4, ALL)], "block 4294967295: lies at byte"),
    "sequence on the medium's zeros": (FULL, ANCHOR, [(20, 4, 1), (28, 4, 1)], "no logical volume descriptor"),
    "volume of another block size": (FULL, VOLUME, [(212, 4, 512)], "blocks of 512 bytes on sectors of 2048"),
    "no partition maps": (FULL, VOLUME, [(268, 4, 0)], "0 partition maps"),
    "4 billion partition maps": (FULL, VOLUME, [(268, 4, ALL), (264, 4, ALL)], "4294967295 partition maps"),
    "maps that take no room": (FULL, VOLUME, [(268, 4, 8), (264, 4, 12)], "partition map at byte 6"),
    "a map of length 0": (FULL, VOLUME, [(441, 1, 0)], "partition map at byte 0"),
    "file set elsewhere": (FULL, VOLUME, [(252, 4, ALL)], "block 4294967295 is past its end"),
    "file set in no partition": (FULL, VOLUME, [(256, 2, 9)], "reference 9 is none of 1"),
    "partition of another number": (FULL, PARTITION, [(22, 2, 7)], "there is no partition 0"),
    "empty partition": (FULL, PARTITION, [(192, 4, 0)], "block 0 is past its end, 0"),
    "partition past the medium": (FULL, PARTITION, [(188, 4, ALL)], "UDF file set descriptor: lies at byte"),
    "root in the file set": (FULL, FILE_SET, [(404, 4, 0)], "UDF root directory: has a tag of kind 256"),
    "entry with a name past the end": (FULL, NAME, [(19, 1, 255), (36, 2, 65535)], "the entry at byte 0 is cut off"),
    "entry that leads to itself": (FULL, NAME, [(24, 4, 2)], "not a plain file but of UDF file type 4"),
    "entry into no partition": (FULL, NAME, [(28, 2, 65535)], "reference 65535 is none"),
    "descriptors of 4 GiB": (FULL, FILE, [(172, 4, ALL)], "don't fit into its entry"),
    "attributes of 4 GiB": (FULL, FILE, [(168, 4, ALL)], "don't fit into its entry"),
    "a file of 16 EiB": (FULL, FILE, [(56, 8, (1 << 64) - 1)], "18446744073709551615 bytes long, more than"),
    "extents of no length": (FULL, FILE, [(200, 4, 0)], "its extents end"),
    "an unknown form": (FULL, FILE, [(34, 2, 7)], "allocation descriptors of form 7"),
    "all in its own entry": (FULL, FILE, [(34, 2, 3)], "don't fit into its own entry"),
    "an unknown strategy": (FULL, FILE, [(20, 2, 5)], "ICB strategy 5"),
    "a continuation of 4 GiB": (FULL, CONTINUATION, [(20, 4, ALL)], "a continuation of 4294967295 bytes"),
    "a continuation that is none": (FULL, CONTINUATION, [(0, 2, 257)], "has a tag of kind 257"),
    "compressed extents": (UdfForm(allocation="extended"), FILE, [(208, 4, 1)], "not stored as it is|UDF"),
    "sparing packets of no block": (UdfForm(partition="sparable"), VOLUME, [(480, 2, 0)], "packets of 0 blocks"),
    "a sparing table of 4 GiB": (UdfForm(partition="sparable"), VOLUME, [(484, 4, ALL)], "4294967295 bytes"),
    "65535 spared packets": (UdfForm(partition="sparable"), 0, [(48, 2, 65535)], "UDF sparing table: is cut off"),
    "a sparing table of 8 bytes": (
        UdfForm(partition="sparable"),
        VOLUME,
        [(484, 4, 8)],
        "UDF sparing table: is cut off",
    ),
    "a map of no known type": (
        UdfForm(partition="sparable"),
        VOLUME,
        [(446, 1, 0x58)],
        "a type that UDF does not know",
    ),
    "names in no known characters": (FULL, NAME, [(38, 1, 9)], "there is no such file"),
    "a CRC over more than there is": (FULL, FILE, [(10, 2, 65535)], "its CRC claims 65535 bytes"),
    "no sparing table": (UdfForm(partition="sparable"), VOLUME, [(482, 1, 0)], "UDF sparing table: there is none"),
}


@pytest.mark.parametrize("name", CASES)
def test_each_lie_is_refused_by_its_name(opened: Open, name: str) -> None:
    form, kind, changes, problem = CASES[name]
    image = opened(make_udf(OVF, form))
    change(image, kind, *changes)
    with pytest.raises(InputError, match=problem):
        read(image.medium)
    image.medium.restore()
    assert read(image.medium) == OVF


def test_a_metadata_partition_that_lies_in_itself_is_refused(opened: Open) -> None:
    image = opened(make_udf(OVF, UdfForm(partition="metadata", revision=0x250, allocation="long")))
    for each in image.descriptors:
        if each.kind == FILE and image.medium.read(each.at + 27, 1) in (b"\xfa", b"\xfb"):
            image.medium.write(each.at + 34, b"\1\0")  # long descriptors, which name a partition: its own
            image.medium.write(each.at + 200, b"\0\x20\0\0" + b"\0\0\0\0" + b"\1\0" + bytes(6))
            sign(image.medium, each.at)
    with pytest.raises(InputError, match="reference 1 is not usable yet"):
        read(image.medium)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ([(203, 1, 0x40)], "metadata partition: block 0 is not recorded"),
        ([(204, 4, 0), (208, 4, 0)], "UDF"),
        ([(27, 1, 5)], "UDF metadata file: is of UDF file type 5"),
        ([(200, 4, 0)], "metadata partition: block 0 is not recorded"),
    ],
)
def test_a_metadata_file_that_lies_is_refused(opened: Open, changes: list[tuple[int, int, int]], problem: str) -> None:
    image = opened(make_udf(OVF, UdfForm(partition="metadata", revision=0x250)))
    for each in image.descriptors:
        if each.kind == FILE and image.medium.read(each.at + 27, 1) in (b"\xfa", b"\xfb"):
            for offset, width, value in changes:
                image.medium.write(each.at + offset, value.to_bytes(width, "little"))
            sign(image.medium, each.at)
    with pytest.raises(InputError, match=problem):
        read(image.medium)


@pytest.mark.parametrize("revision", [0x150, 0x200])
@pytest.mark.parametrize("change", [(27, 1, 5), (56, 8, 1), (56, 8, 0)], ids=str)
def test_a_virtual_table_that_is_none_is_refused(opened: Open, revision: int, change: tuple[int, int, int]) -> None:
    image = opened(make_udf(OVF, UdfForm(partition="virtual", revision=revision)))
    last = max(each.at for each in image.descriptors)
    offset, width, value = change
    image.medium.write(last + offset, value.to_bytes(width, "little"))
    sign(image.medium, last)
    with pytest.raises(InputError, match="UDF virtual allocation table: there is none"):
        read(image.medium)


def test_of_two_descriptors_the_later_prevails(opened: Open) -> None:
    image = opened(make_udf(OVF))
    spare = next(each.at for each in image.descriptors if each.kind == 7)
    for kind, offset in ((VOLUME, 212), (PARTITION, 188)):
        source = next(each.at for each in image.descriptors if each.kind == kind)
        data = bytearray(image.medium.read(source, 512))
        data[12:16] = (spare // 2048).to_bytes(4, "little")
        data[16:20] = bytes(4)  # an older sequence number, and what would be wrong
        data[offset : offset + 4] = b"\7\0\0\0"
        image.medium.write(spare, bytes(data))
        sign(image.medium, spare)
        assert read(image.medium) == OVF


def test_a_sequence_may_end_with_its_extent(opened: Open) -> None:
    image = opened(make_udf(OVF))
    change(image, ANCHOR, (16, 4, 3 * 2048), (24, 4, 3 * 2048))
    assert read(image.medium) == OVF


@pytest.mark.parametrize("offset", [0, 151, 0xFFFF])
def test_a_virtual_table_whose_header_lies_is_refused(opened: Open, offset: int) -> None:
    image = opened(make_udf(OVF, UdfForm(partition="virtual", revision=0x200)))
    header = b"\x98\0\0\0\x08vol"
    at = next(at for at in range(0, image.medium.full_bytes, 2048) if image.medium.read(at, len(header)) == header)
    image.medium.write(at, offset.to_bytes(2, "little"))
    with pytest.raises(InputError):
        read(image.medium)


SEEDS = ("hd-1.02-2048", "hd-2.01-512", "cdrw-2.01-2048", "ours-1.50-virtual-2048", "ours-2.60-metadata-512")


def damage(medium: Medium, at: int, kind: str) -> None:
    match kind:
        case "cut before":
            medium.size_bytes = max(at, 1)
        case "cut within":
            medium.size_bytes = at + 40
        case "tag" | "body":
            place = at + (4 if kind == "tag" else 20)
            medium.write(place, bytes([medium.read(place, 1)[0] ^ 1]))


@pytest.mark.parametrize("name", SEEDS)
def test_every_structure_may_be_cut_off_or_damaged_and_nothing_wrong_is_ever_read(opened: Open, name: str) -> None:
    image = opened(lzma.decompress((DATA / f"{name}.img.xz").read_bytes()))
    refused = 0
    for each, kind in itertools.product(image.descriptors, ("cut before", "cut within", "tag", "body")):
        damage(image.medium, each.at, kind)
        blocks = Blocks(image.medium.descriptor, image.medium.size_bytes, BUDGET_BYTES)
        try:
            assert udf.read_file(blocks, (OVF_NAME,), bounds.MAX_DOCUMENT_BYTES) == OVF, f"{kind} {each}"
        except InputError:
            refused += 1
        image.medium.restore()
    assert refused >= 20
