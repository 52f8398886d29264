# SPDX-License-Identifier: Apache-2.0
"""Where the host is: the saved file, and everything that can be wrong with it."""

import os
from pathlib import Path

import pytest

from supervisor.wire.endpoint import WIRE_SERVER, saved_endpoint


def test_saved_address_is_taken(tmp_path: Path) -> None:
    (tmp_path / "WireServerEndpoint").write_text("10.1.2.3\n")
    assert saved_endpoint(tmp_path).address == "10.1.2.3"


def test_nothing_saved(tmp_path: Path) -> None:
    assert saved_endpoint(tmp_path).address == WIRE_SERVER == "168.63.129.16"
    assert "none is saved" in saved_endpoint(tmp_path / "no" / "such").why


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"10.1.2",
        b"10.1.2.3.4",
        b"10.1.2.256",
        b"0x0a.1.2.3",
        b"host.example",
        b"::1",
        b"0.0.0.0",
        b"0.1.2.3",
        b"224.0.0.1",
        b"255.255.255.255",
        b"10.1.2.3 10.1.2.4",
        b"10.1.2.3\x00",
        b"\xff\xfe",
        b"1" * 100_000,
    ],
)
def test_anything_but_one_host_is_ignored(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "WireServerEndpoint").write_bytes(content)
    assert saved_endpoint(tmp_path).address == WIRE_SERVER


def test_link_pipe_and_folder_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "WireServerEndpoint"
    (tmp_path / "other").write_text("10.1.2.3")
    path.symlink_to("other")
    assert saved_endpoint(tmp_path).address == WIRE_SERVER
    path.unlink()
    os.mkfifo(path)
    assert "not a regular file" in saved_endpoint(tmp_path).why
    path.unlink()
    path.mkdir()
    assert saved_endpoint(tmp_path).address == WIRE_SERVER
