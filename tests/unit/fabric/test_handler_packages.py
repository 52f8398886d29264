# SPDX-License-Identifier: Apache-2.0
"""Handlers' packages of our own: stocked with a manifest, wrongly made as they say, and signed as openssl verifies."""

import io
import re
import subprocess
import zipfile
from html import unescape
from pathlib import Path

import pytest

from tests.fabric.blob_store import BlobStore
from tests.fabric.handler_packages import WRONGS, Package
from tests.fabric.package_signing import Signer
from tests.fabric.wire_book import Trial

PACKAGE = Package("Test.One", "1.2.3", does={"enable": ["fail=3"]})


def test_a_stocked_handler_has_a_manifest_that_names_its_packages() -> None:
    store = BlobStore()
    manifest = store.read(store.stock("Test.One", {"1.2.3": [b"wrong", PACKAGE.zipped()]}), Trial()).decode()
    assert re.findall("<Version>(.*?)</Version>", manifest) == ["1.2.3"]
    first, second = (store.read(unescape(uri), Trial()) for uri in re.findall("<Uri>(.*?)</Uri>", manifest))
    assert first == b"wrong"
    assert set(zipfile.ZipFile(io.BytesIO(second)).namelist()) >= {"HandlerManifest.json", "bin/handler"}
    # Where a goal state looks for it by default.
    assert store.read(store.manifest("Test.One"), Trial()).decode() == manifest


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("climber", lambda entry: entry.filename.startswith("../")),
        ("absolute", lambda entry: entry.filename.startswith("/")),
        ("link", lambda entry: entry.external_attr >> 28 == 0o12),
        ("set-id", lambda entry: entry.external_attr >> 16 & 0o4000),
        ("bomb", lambda entry: entry.file_size == 0xFFFF_FFFE),
        ("encrypted", lambda entry: entry.flag_bits & 1),
    ],
)
def test_a_wrong_package_has_what_it_is_called_for(how: str, said: object) -> None:
    assert callable(said)
    assert any(said(entry) for entry in zipfile.ZipFile(io.BytesIO(PACKAGE.wrong(how))).infolist())
    assert not any(said(entry) for entry in zipfile.ZipFile(io.BytesIO(PACKAGE.zipped())).infolist())


@pytest.mark.parametrize("how", ["truncated", "no-zip"])
def test_what_is_no_zip_is_none(how: str) -> None:
    assert how in WRONGS
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(io.BytesIO(PACKAGE.wrong(how)))


def test_a_signature_is_the_packages_own(tmp_path: Path) -> None:
    signer = Signer.make()
    package = PACKAGE.zipped()
    files = {"package": package, "other": package + b"\0", "signature": signer.sign(package), "ca": signer.authority}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    command = "openssl cms -verify -binary -inform der -in signature -CAfile ca -purpose any -out /dev/null -content"
    done = [subprocess.run([*command.split(), name], cwd=tmp_path, check=False).returncode for name in list(files)[:2]]
    assert done[0] == 0
    assert done[1] != 0
