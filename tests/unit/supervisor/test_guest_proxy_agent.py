# SPDX-License-Identifier: Apache-2.0
"""Whether the Guest Proxy Agent is there: by its unit, its program, or its listener."""

import socket
from pathlib import Path

import pytest

from supervisor.guest_proxy_agent import LISTENER, GuestProxyAgent, installed, listens

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def placed(root: Path, path: str, content: str = "[Unit]\n") -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(content)


@pytest.mark.parametrize(
    "path",
    [
        "usr/lib/systemd/system/azure-proxy-agent.service",
        "etc/systemd/system/GuestProxyAgent.service",
        "usr/sbin/azure-proxy-agent",
    ],
)
def test_it_is_found_by_its_files(tmp_path: Path, path: str) -> None:
    assert installed(str(tmp_path)) == ""
    placed(tmp_path, path)
    assert installed(str(tmp_path)) == f"/{path}"
    agent = GuestProxyAgent(str(tmp_path), sockets="/dev/null")
    (tmp_path / path).unlink()
    assert agent.why() == f"/{path}"  # looked for once


def test_a_masked_unit_does_not_run(tmp_path: Path) -> None:
    placed(tmp_path, "usr/lib/systemd/system/azure-proxy-agent.service")
    placed(tmp_path, "usr/sbin/azure-proxy-agent")
    (tmp_path / "etc/systemd/system").mkdir(parents=True)
    (tmp_path / "etc/systemd/system/azure-proxy-agent.service").symlink_to("/dev/null")
    assert installed(str(tmp_path)) == ""


@pytest.mark.parametrize(
    ("address", "state", "uid", "found"),
    [
        (LISTENER, "0A", "0", True),
        (LISTENER, "0A", "1000", False),
        (LISTENER, "01", "0", False),
        ("00000000:0C08", "0A", "0", False),
        ("0100007F:0C09", "0A", "0", False),
    ],
)
def test_it_is_found_by_its_listener(tmp_path: Path, address: str, state: str, uid: str, *, found: bool) -> None:
    row = f"   0: {address} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     {uid}        0 1\n"
    (tmp_path / "tcp").write_text(HEAD + row)
    assert bool(listens(str(tmp_path / "tcp"))) == found
    assert bool(GuestProxyAgent(str(tmp_path), str(tmp_path / "tcp")).why()) == found


def test_the_kernels_list_is_read_as_it_is() -> None:
    """The form of a row, on this very kernel."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = f"0100007F:{server.getsockname()[1]:04X}"
        rows = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()]
        assert ["0A", "0"] in [[row[3], row[7]] for row in rows if row[1] == port]
    assert listens("/nowhere") == ""
