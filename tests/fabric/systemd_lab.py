# SPDX-License-Identifier: Apache-2.0
"""Owns a lab in which systemd is process 1, with the agent's unit as it is packaged. Half a second to boot.

Runs in the test. It boots a target of its own, so that nothing that the host happens to have enabled is started.
"""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from tests.fabric.lab import PROJECT, Lab, LabError, PlacedFile
from tests.fabric.waiting import WaitedInVain, until

UNIT = "agent-supervisor.service"
UNITS = Path("/etc/systemd/system")
SYSTEMD = ("/lib/systemd/systemd", "--system", "--unit=lab.target", "--log-target=console", "--show-status=yes")
TARGET = b"""[Unit]
Description=All that the lab needs
DefaultDependencies=no
Requires=sysinit.target
Wants=dbus.socket
After=sysinit.target dbus.socket
"""
# Empty unit files are masked ones: what would touch the machine, or wait for hardware and links that aren't there.
MASKED = (
    "systemd-modules-load.service",
    "systemd-sysctl.service",
    "systemd-udevd.service",
    "systemd-udev-trigger.service",
    "systemd-udev-settle.service",
    "systemd-timesyncd.service",
    "systemd-random-seed.service",
    "systemd-binfmt.service",
    "systemd-networkd.service",
    "systemd-networkd-wait-online.service",
    "NetworkManager.service",
    "NetworkManager-wait-online.service",
    "networking.service",
    "ifupdown-wait-online.service",
    "cloud-init-local.service",
    "cloud-init.service",
)


class SystemdLab(Lab):
    """As `Lab`, once systemd is up. `files` as there; the unit, its program and the masks come on top."""

    def __init__(
        self, files: Mapping[str, bytes | PlacedFile] | None = None, *, cgroup: Literal["host", "v2"] = "host"
    ) -> None:
        placed: dict[str, bytes | PlacedFile] = {str(UNITS / name): b"" for name in MASKED}
        placed[str(UNITS / "lab.target")] = TARGET
        placed[str(UNITS / UNIT)] = (PROJECT / "packaging/systemd" / UNIT).read_bytes()
        placed["/etc/systemd/journald.conf.d/lab.conf"] = b"[Journal]\nStorage=volatile\n"
        # Where a package would install it.
        program = f"#!/bin/sh\nexec '{PROJECT}/.venv/bin/agent-supervisor' \"$@\"\n"
        placed["/usr/lib/agent-supervisor/bin/agent-supervisor"] = PlacedFile(program.encode(), 0o755)
        super().__init__(placed | dict(files or {}), cgroup=cgroup, init=SYSTEMD)

    def __enter__(self) -> "SystemdLab":
        super().__enter__()
        try:
            until("systemd is up", self._is_up, timeout_s=30)
        except WaitedInVain as error:
            console = self.read("/run/console.log").decode(errors="replace")
            self.close()
            raise LabError(f"{error}\n{console}") from error
        return self

    def systemctl(self, *arguments: str, timeout_s: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Run systemctl in the lab."""
        return self.run(["systemctl", "--no-pager", *arguments], timeout_s=timeout_s)

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit as systemd has them now."""
        told = self.systemctl("show", f"--property={','.join(properties)}", "--", unit).stdout
        return dict(line.split("=", 1) for line in told.splitlines())

    def journal(self, unit: str) -> str:
        """The unit's messages so far."""
        return self.output("journalctl", "--no-pager", "--output=cat", f"--unit={unit}")

    def _is_up(self) -> bool:
        return self.systemctl("is-system-running").stdout.strip() in {"running", "degraded"}
