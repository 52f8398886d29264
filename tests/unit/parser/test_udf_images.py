# SPDX-License-Identifier: Apache-2.0
"""Every image in tests/data: volumes of mkudffs filled by Linux, our own writer's that Linux read, ISO9660 of others.

Made by tests/fabric/make_udf_images.sh and make_iso_images.sh.
"""

import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from ipc.errors import InputError

DATA = Path(__file__).resolve().parents[2] / "data"
UDF, ISO = DATA / "udf", DATA / "iso"
OVF = (UDF / "ovf-env.xml").read_bytes()
LARGE = (UDF / "large.xml").read_bytes()
SHORT = (UDF / "short.xml").read_bytes()
FILLED = sorted(path.name for path in UDF.glob("*.img.xz") if not path.name.startswith("ours-"))
OURS = sorted(path.name for path in UDF.glob("ours-*.img.xz"))
ISOS = sorted(path.name for path in ISO.glob("*.iso.xz"))

Read = Callable[..., bytes]


def image(folder: Path, name: str) -> bytes:
    return lzma.decompress((folder / name).read_bytes())


def test_the_images_are_all_here() -> None:
    assert (len(FILLED), len(OURS), len(ISOS)) == (43, 15, 9)
    for revision in ("1.01", "1.02", "1.50", "2.00", "2.01"):
        for block in (512, 2048, 4096):
            assert f"hd-{revision}-{block}.img.xz" in FILLED


@pytest.mark.parametrize("name", FILLED)
def test_a_volume_filled_by_linux_is_read(read_udf: Read, name: str) -> None:
    medium = image(UDF, name)
    assert read_udf(medium) == OVF
    assert read_udf(medium, "OVF-ENV.XML") == OVF
    assert read_udf(medium, "short.xml") == SHORT  # within its own entry, where the volume allows that
    assert read_udf(medium, "nested", "large.xml") == LARGE  # in extents that alternate with another file's
    assert read_udf(medium, "many", "ovf-env.xml") == OVF  # behind sixty others, one of them deleted
    assert read_udf(medium, "日本語", "名前.xml") == SHORT
    with pytest.raises(InputError, match="not a plain file"):
        read_udf(medium, "link")
    with pytest.raises(InputError, match="there is no such file"):
        read_udf(medium, "many", "an entry among many others, number 7")
    with pytest.raises(InputError, match="not a directory"):
        read_udf(medium, "ovf-env.xml", "x")


@pytest.mark.parametrize("name", OURS)
def test_what_linux_reads_of_our_own_volumes_is_read_alike(read_udf: Read, name: str) -> None:
    assert read_udf(image(UDF, name)) == OVF


@pytest.mark.parametrize("name", ISOS)
def test_iso_images_of_other_writers_are_read(read_iso: Read, name: str) -> None:
    assert read_iso(image(ISO, name)) == OVF
