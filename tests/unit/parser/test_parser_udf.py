# SPDX-License-Identifier: Apache-2.0
"""The UDF reader against images of the Linux kernel, mkudffs, genisoimage, pycdlib and our own writer."""

import base64
import itertools
import lzma
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipc.errors import InputError
from tests.fabric.media import damaged_media, make_bridge, make_iso, make_ovf, wipe_iso_descriptors
from tests.fabric.udf_writer import UdfForm, make_udf
from workers.parser.bounds import MAX_DOCUMENT_BYTES

OVF = make_ovf(password="Tr0ub4dor&3", keys=["ssh-ed25519 AAAAC3 someone"], custom_data=b"#!/bin/sh\n" * 400)
KERNEL_IMAGES = (
    "provisioning/udf-1.02-written-by-linux.img.xz",
    "provisioning/udf-2.01-512-byte-blocks-written-by-linux.img.xz",
)
TOOLS = "/usr/sbin:/usr/bin:/sbin:/bin"

Read = Callable[..., bytes]
Vector = Callable[[str], bytes]


def tool(name: str) -> str:
    found = shutil.which(name, path=TOOLS)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def genisoimage(folder: Path, *options: str) -> bytes:
    (folder / "in").mkdir()
    (folder / "in" / "ovf-env.xml").write_bytes(OVF)
    out = folder / "out.iso"
    subprocess.run([tool("genisoimage"), "-quiet", *options, "-o", str(out), str(folder / "in")], check=True)
    return out.read_bytes()


@pytest.mark.parametrize("image", KERNEL_IMAGES)
def test_images_written_by_linux_are_read(read_udf: Read, vector: Vector, image: str) -> None:
    medium = lzma.decompress(vector(image))
    assert read_udf(medium) == vector("provisioning/ovf-env.xml")
    assert read_udf(medium, "OVF-ENV.XML") == vector("provisioning/ovf-env.xml")
    assert len(base64.b64decode(read_udf(medium, "nested", "big.txt"), validate=False)) == 300_000
    with pytest.raises(InputError, match="not a plain file"):
        read_udf(medium, "link")
    with pytest.raises(InputError, match="not a plain file"):
        read_udf(medium, "nested")
    with pytest.raises(InputError, match="not a directory"):
        read_udf(medium, "ovf-env.xml", "x")


FORMS = [
    *itertools.product(
        (512, 2048, 4096),
        ("physical", "sparable", "virtual", "metadata"),
        ("short", "long", "extended", "embedded"),
        ({"revision": 0x102}, {"revision": 0x201, "extended_entry": True, "wide_names": True}),
    )
]


@pytest.mark.parametrize(("block", "partition", "allocation", "more"), FORMS)
def test_every_form_of_volume_and_file_is_read(
    read_udf: Read, block: int, partition: Any, allocation: Any, more: dict[str, Any]
) -> None:
    if partition == "metadata":
        more = {**more, "revision": 0x250}
    content = OVF[:200] if allocation == "embedded" else OVF
    form = UdfForm(block_bytes=block, partition=partition, allocation=allocation, **more)
    assert read_udf(make_udf(content, form)) == content


@pytest.mark.parametrize(
    "form",
    [
        UdfForm(fragments=3),
        UdfForm(fragments=3, continued=True),
        UdfForm(block_bytes=512, fragments=9, continued=True, allocation="long"),
        UdfForm(strategy=4096),
        UdfForm(strategy=4096, partition="virtual", revision=0x150),
        UdfForm(deleted_entry=True),
        UdfForm(partition="metadata", revision=0x260, deleted_entry=True),
        UdfForm(damaged_main_sequence=True),
        UdfForm(file_name="OVF-Env.XML"),
        UdfForm(block_bytes=1024),
        UdfForm(block_bytes=32768),
    ],
    ids=str,
)
def test_odd_but_valid_volumes_are_read(read_udf: Read, form: UdfForm) -> None:
    assert read_udf(make_udf(OVF, form)) == OVF


MKUDFFS = [
    ("hd", "1.01", "--ad=short"),
    ("hd", "1.02", "--ad=long"),
    ("dvd", "1.50", "--strategy=4"),
    ("dvdram", "2.00", "--noefe"),
    ("cd", "1.02", "--ad=long"),
    ("dvd", "2.01", "--ad=short"),
    ("hd", "2.01", "--strategy=4096"),
    ("dvdrw", "1.50", "--spartable=4"),
    ("cdrw", "2.01", "--spartable=1"),
    ("cdr", "1.50", "--vat"),
    ("dvdr", "2.00", "--closed"),
    ("dvdr", "2.50", "--closed"),
    ("bdr", "2.60", "--vat"),
]


@pytest.mark.parametrize("block", [512, 2048])
@pytest.mark.parametrize(("medium", "revision", "option"), MKUDFFS)
def test_the_empty_root_of_every_volume_of_mkudffs_is_listed(
    read_udf: Read, tmp_path: Path, medium: str, revision: str, option: str, block: int
) -> None:
    path = tmp_path / "image"
    with path.open("wb") as image:
        image.truncate(16 * 1024 * 1024)
    options = [f"--blocksize={block}", f"--media-type={medium}", f"--udfrev={revision}", option]
    subprocess.run([tool("mkudffs"), *options, str(path)], check=True, capture_output=True)
    image_bytes = path.read_bytes()
    if medium in ("cdr", "dvdr", "bdr"):  # write-once: the medium ends where writing ended
        image_bytes = image_bytes.rstrip(b"\0")
        image_bytes += bytes(-len(image_bytes) % block)
    with pytest.raises(InputError, match=r"ovf-env\.xml: there is no such file"):
        read_udf(image_bytes)


def test_bridges_are_read_with_and_without_their_iso_descriptors(
    read_udf: Read, read_iso: Read, tmp_path: Path
) -> None:
    for bridge in (make_bridge(OVF), genisoimage(tmp_path, "-udf", "-J", "-R")):
        assert read_udf(bridge) == read_iso(bridge) == OVF
        wiped = wipe_iso_descriptors(bridge)
        assert wiped != bridge
        assert read_udf(wiped) == OVF
        with pytest.raises(InputError):
            read_iso(wiped)


def test_recognition_descriptors_are_not_needed(read_udf: Read) -> None:
    image = bytearray(make_udf(OVF))
    image[32768 : 32768 + 3 * 2048] = bytes(3 * 2048)
    assert read_udf(bytes(image)) == OVF


DAMAGED = damaged_media(OVF)
PROBLEMS = {
    "empty": "medium: is empty",
    "zeros": "UDF anchor: there is none",
    "random": "UDF anchor: there is none",
    "truncated before the anchor": "UDF anchor: there is none",
    "truncated in the partition": "UDF file set descriptor: lies at byte",
    "wrong checksum": "UDF file set descriptor: the checksum of its tag is wrong",
    "directory loop": "not a plain file",
    "continuation loop": "continue more than 64 times",
    "sequence loop": "more than 8 sequences",
    "version loop": "more than 64 versions",
    "extent past the end": "block 16777215 is past its end",
    "4 GiB claimed": "is 4294967296 bytes long",
    "no ovf-env.xml": "there is no such file",
    "iso truncated": "UDF anchor: there is none",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_medium_is_refused_at_once_by_name(read_udf: Read, name: str) -> None:
    start = time.monotonic()
    with pytest.raises(InputError) as refused:
        read_udf(DAMAGED[name])
    assert time.monotonic() - start < 2
    assert PROBLEMS.get(name, "") in str(refused.value)
    assert "Tr0ub4dor" not in str(refused.value)


def test_nothing_is_read_past_the_size_that_was_told(read_udf: Read) -> None:
    image = make_udf(OVF)
    assert read_udf(image + OVF * 200, size=len(image)) == OVF
    with pytest.raises(InputError, match="of a medium of 600000"):
        read_udf(image, size=600_000)
    with pytest.raises(InputError, match="the medium ends at byte"):
        read_udf(image[:600_000], size=len(image))


def test_the_budget_ends_the_reading(read_udf: Read) -> None:
    with pytest.raises(InputError, match="than is allowed"):
        read_udf(make_udf(OVF), budget=4096)


def test_the_longest_document_is_read_and_one_byte_more_is_not(read_udf: Read, read_iso: Read) -> None:
    longest = bytes(MAX_DOCUMENT_BYTES)
    assert read_udf(make_udf(longest, UdfForm(block_bytes=512, fragments=30))) == longest
    assert read_iso(make_iso(longest)) == longest
    for read, image in ((read_udf, make_udf(longest + b"x")), (read_iso, make_iso(longest + b"x"))):
        with pytest.raises(InputError, match="1048577 bytes long, more than"):
            read(image)
