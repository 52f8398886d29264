# SPDX-License-Identifier: Apache-2.0
"""Owns what systemd is told (sd_notify): ready, status, stopping, watchdog; runs in the supervisor.

It must never fail nor wait because of systemd: without NOTIFY_SOCKET it does nothing at all.
"""

import socket
from collections.abc import Mapping

from supervisor.loop import Loop

STATUS_CHARACTERS = 512


class Notifier:
    """Sends datagrams to the socket at `address`; empty means nobody listens."""

    def __init__(self, address: str, watchdog_s: float | None = None) -> None:
        """`watchdog_s`: seconds of silence after which systemd ends the service."""
        # Abstract names are written with @. Other forms (vsock) are for virtual machines' own managers.
        self._address = "\0" + address[1:] if address.startswith("@") else address if address.startswith("/") else ""
        self._watchdog_s = watchdog_s

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], pid: int) -> "Notifier":
        """As systemd's variables say. `pid` is the process that the watchdog is meant for, if it is meant for one."""
        return cls(environment.get("NOTIFY_SOCKET", ""), _watchdog_s(environment, pid))

    @property
    def watchdog_period_s(self) -> float | None:
        """Call `watchdog` this often: twice as often as systemd wants to hear it. None: it does not."""
        return self._watchdog_s / 2 if self._watchdog_s and self._address else None

    def ready(self) -> None:
        """Everything that others wait for is up."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        # A new line would begin another assignment, such as MAINPID.
        line = "".join(character if character.isprintable() else " " for character in text[:STATUS_CHARACTERS])
        self._send(f"STATUS={line}")

    def stopping(self) -> None:
        """The way down has begun."""
        self._send("STOPPING=1")

    def watchdog(self) -> None:
        """The main loop has made a whole turn."""
        self._send("WATCHDOG=1")

    def keep_watchdog(self, loop: Loop) -> None:
        """From now on tell systemd, from `loop` and nowhere else, that the loop turns; nothing if it wants no such."""
        period = self.watchdog_period_s
        if period is None:
            return

        def beat() -> None:
            self.watchdog()
            loop.call_later(period, beat)

        beat()

    def _send(self, assignment: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.sendto(assignment.encode("utf-8", "replace"), socket.MSG_DONTWAIT, self._address)
        except OSError:
            pass  # systemd is busy or gone: nothing of ours depends on it


def _watchdog_s(environment: Mapping[str, str], pid: int) -> float | None:
    period = environment.get("WATCHDOG_USEC", "")
    meant_for = environment.get("WATCHDOG_PID", str(pid))
    if not (period.isascii() and period.isdecimal() and len(period) <= 18 and meant_for == str(pid)):
        return None
    return int(period) / 1_000_000 or None
