# SPDX-License-Identifier: Apache-2.0
"""ISO9660 media of pycdlib and genisoimage: every name space finds the file, every damage is an InputError."""

import io
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pycdlib
import pytest

from ipc.errors import InputError
from tests.fabric.media import damaged_media, make_iso, make_ovf
from workers.parser import iso
from workers.parser.blocks import Blocks

OVF = make_ovf(password="Tr0ub4dor&3")
DAMAGED = damaged_media(OVF)

Read = Callable[..., bytes]


@pytest.mark.parametrize(
    ("rock_ridge", "joliet", "plain_name"),
    [
        (True, True, "OVF_ENV.XML"),
        (True, False, "OTHER.XML"),
        (False, True, "OTHER.XML"),
        (False, False, "OVF_ENV.XML"),
        (False, False, "OVF-ENV.XML"),
        (False, False, "ovf-env.xml"),
    ],
)
def test_the_file_is_found_by_whichever_name_it_has(
    read_iso: Read, rock_ridge: bool, joliet: bool, plain_name: str
) -> None:
    assert read_iso(make_iso(OVF, rock_ridge=rock_ridge, joliet=joliet, plain_name=plain_name)) == OVF


OPTIONS = ["", "-R", "-J", "-udf", "-R -J -udf", "-l -allow-lowercase", "-iso-level 4", "-r -J -joliet-long", "-U"]


@pytest.mark.parametrize("options", [tuple(words.split()) for words in OPTIONS], ids=OPTIONS)
def test_images_of_genisoimage_are_read(read_iso: Read, tmp_path: Path, options: tuple[str, ...]) -> None:
    program = shutil.which("genisoimage", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None:
        pytest.skip("genisoimage is not installed")
    (tmp_path / "in" / "deeper").mkdir(parents=True)
    (tmp_path / "in" / "deeper" / "ovf-env.xml").write_bytes(b"the wrong one")
    (tmp_path / "in" / "ovf-env.xml").write_bytes(OVF)
    out = tmp_path / "out.iso"
    subprocess.run([program, "-quiet", *options, "-o", str(out), str(tmp_path / "in")], check=True, capture_output=True)
    assert read_iso(out.read_bytes()) == OVF


def test_a_name_that_goes_on_in_a_continuation_is_found(read_iso: Read, tmp_path: Path) -> None:
    program = shutil.which("genisoimage", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None:
        pytest.skip("genisoimage is not installed")
    name = f"{'long-' * 48}.xml"
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(OVF)
    out = tmp_path / "out.iso"
    subprocess.run([program, "-quiet", "-R", "-o", str(out), str(tmp_path / "in")], check=True, capture_output=True)
    assert read_iso(out.read_bytes(), name) == OVF


def test_a_folder_of_that_name_is_no_document(read_iso: Read) -> None:
    image = pycdlib.PyCdlib()
    image.new(interchange_level=4)
    image.add_directory("/ovf-env.xml")
    out = io.BytesIO()
    image.write_fp(out)
    image.close()
    with pytest.raises(InputError, match="there is no such file"):
        read_iso(out.getvalue())


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_medium_is_refused(read_iso: Read, name: str) -> None:
    with pytest.raises(InputError) as refused:
        read_iso(DAMAGED[name])
    assert "Tr0ub4dor" not in str(refused.value)


def test_a_path_table_that_claims_4_gib_is_not_looked_at(read_iso: Read) -> None:
    image = bytearray(make_iso(OVF))
    image[32768 + 132 : 32768 + 140] = b"\xf0\xff\xff\xff\xff\xff\xff\xf0"
    assert read_iso(bytes(image)) == OVF


def test_a_medium_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(make_iso(OVF))
    descriptor = os.open(path, os.O_WRONLY)
    try:
        with pytest.raises(InputError, match="can't be read at byte 32768: EBADF"):
            iso.read_file(Blocks(descriptor, path.stat().st_size, 1 << 20), "ovf-env.xml", 1 << 20)
    finally:
        os.close(descriptor)
