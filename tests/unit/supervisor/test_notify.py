# SPDX-License-Identifier: Apache-2.0
"""What systemd is told, on real datagram sockets."""

import os
import socket
from pathlib import Path

import pytest

from supervisor.notify import Notifier


def listener(address: str) -> socket.socket:
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(address)
    receiver.settimeout(5)
    return receiver


@pytest.mark.parametrize("abstract", [False, True])
def test_every_message_arrives(tmp_path: Path, abstract: bool) -> None:
    name = f"agent-supervisor-test-{os.getpid()}"
    with listener("\0" + name if abstract else str(tmp_path / "notify")) as receiver:
        environment = {"NOTIFY_SOCKET": "@" + name if abstract else str(tmp_path / "notify")}
        notifier = Notifier.from_environment(environment, os.getpid())
        notifier.ready()
        notifier.status("provisioning\nMAINPID=1")
        notifier.watchdog()
        notifier.stopping()
        got = [receiver.recv(4096) for _ in range(4)]
    assert got == [b"READY=1", b"STATUS=provisioning MAINPID=1", b"WATCHDOG=1", b"STOPPING=1"]


@pytest.mark.parametrize(
    ("environment", "period"),
    [
        ({"WATCHDOG_USEC": "20000000"}, 10.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "77"}, 10.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "78"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({"WATCHDOG_USEC": "²"}, None),
        ({"WATCHDOG_USEC": "9" * 400}, None),
        ({}, None),
    ],
)
def test_watchdog_period(environment: dict[str, str], period: float | None) -> None:
    assert Notifier.from_environment({"NOTIFY_SOCKET": "/x", **environment}, 77).watchdog_period_s == period
    assert Notifier.from_environment(environment, 77).watchdog_period_s is None


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1", "/does/not/exist", "@nobody-there", "/" + "x" * 300])
def test_without_a_listener_nothing_happens(address: str) -> None:
    Notifier.from_environment({"NOTIFY_SOCKET": address}, 1).ready()


def test_a_manager_that_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    with listener(str(tmp_path / "notify")):
        notifier = Notifier(str(tmp_path / "notify"))
        for _ in range(5000):
            notifier.watchdog()
