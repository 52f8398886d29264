# SPDX-License-Identifier: Apache-2.0
"""Which files of trust.d say whom to trust: root's own, with a certificate in them; any other is told and left out."""

import os
from pathlib import Path

import pytest

from supervisor.extensions import trust

pytestmark = pytest.mark.root

ONE, TWO = (f"-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----".encode() for name in ("one", "two"))


def test_every_certificate_of_roots_counts_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "b.pem").write_bytes(TWO)
    (tmp_path / "a.crt").write_bytes(ONE + b"\n\n")
    (tmp_path / "note.txt").write_bytes(TWO)
    assert trust.read(str(tmp_path)) == trust.Anchors(ONE + b"\n" + TWO + b"\n")
    (tmp_path / "wide.pem").write_bytes(ONE)
    (tmp_path / "wide.pem").chmod(0o666)
    (tmp_path / "other.pem").write_bytes(ONE)
    os.chown(tmp_path / "other.pem", 1000, 0)
    (tmp_path / "empty.pem").write_bytes(b"nothing")
    (tmp_path / "folder.pem").mkdir()
    os.mkfifo(tmp_path / "pipe.pem")
    (tmp_path / "gone.pem").symlink_to("nowhere")
    found = trust.read(str(tmp_path))
    assert found.pem == ONE + b"\n" + TWO + b"\n"
    assert [problem.partition(": ")[0].removeprefix(f"{tmp_path}/") for problem in found.problems] == [
        "empty.pem holds no certificate in PEM",
        "folder.pem is no file of at most 1048576 bytes",
        "gone.pem No such file or directory",
        "other.pem is not root's alone to write",
        "pipe.pem is no file of at most 1048576 bytes",
        "wide.pem is not root's alone to write",
    ]


def test_without_a_folder_nobody_is_trusted_and_with_too_much_neither(tmp_path: Path) -> None:
    assert trust.read(str(tmp_path / "none")) == trust.Anchors()
    for name in ("a.pem", "b.pem"):
        (tmp_path / name).write_bytes(ONE + b"#" * 600_000)
    found = trust.read(str(tmp_path))
    assert (found.pem, "nobody in it is trusted" in found.problems[-1]) == (b"", True)
