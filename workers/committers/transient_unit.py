# SPDX-License-Identifier: Apache-2.0
"""Owns one transient systemd unit: started by systemd-run, looked at by systemctl, waited for by its main process.

Runs in the committers of custom data and of vendors' commands; their companions, which hold no capability either, speak
to systemd on the manager's own socket, and are obeyed for their uid.
"""

import os
import select
import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ipc.errors import CommitError
from workers.committers.tools import Tools

STOP_PATIENCE_S = 10
LOOK_AGAIN_S = 0.1
EXITED = "1"  # CLD_EXITED; all else is a signal
PROPERTIES = (
    "LoadState", "ActiveState", "SubState", "Result", "MainPID", "ExecMainCode", "ExecMainStatus",
    "ExecMainStartTimestampMonotonic", "ExecMainExitTimestampMonotonic", "ControlGroup",
)  # fmt: skip
# A script's exit status is ignored: whatever it is, what the script left running is not ended for it.
ANY_STATUS = " ".join(map(str, range(1, 256)))


class Shown(NamedTuple):
    """The unit as systemd has it now. `status` is exit status or signal; `seconds` how long the main process lived;
    `group` its cgroup, if it has one, from the root of systemd's on."""

    is_loaded: bool
    is_over: bool
    main_pid: int
    timed_out: bool
    signalled: bool
    status: int
    seconds: float
    group: str = ""


class Unit:
    """The unit called `name`."""

    def __init__(self, name: str, tools: Tools) -> None:
        self.name = name
        self._tools = tools

    def show(self) -> Shown:
        """What systemd knows of it."""
        told = self._tools.run_well("systemctl", "show", f"--property={','.join(PROPERTIES)}", "--", self.name).output
        facts = dict(word.split("=", 1) for word in told.split() if "=" in word)
        if "LoadState" not in facts:
            raise CommitError(f"systemctl shows no state of {self.name}: {told}")
        began, ended = (_number(facts, f"ExecMain{moment}TimestampMonotonic") for moment in ("Start", "Exit"))
        return Shown(
            is_loaded=facts["LoadState"] == "loaded",
            is_over=facts.get("ActiveState") in {"inactive", "failed"} or facts.get("SubState") == "exited",
            main_pid=_number(facts, "MainPID"),
            timed_out=facts.get("Result") == "timeout",
            signalled=facts.get("ExecMainCode") != EXITED,
            status=_number(facts, "ExecMainStatus"),
            seconds=max(0, ended - began) / 1e6,
            group=facts.get("ControlGroup", ""),
        )

    def start(self, description: str, timeout_s: int, program: Sequence[str], properties: Iterable[str] = ()) -> None:
        """Have systemd run `program` as root in a cgroup of its own; the unit stays known after its end, in any way.

        `properties` are those of the unit beyond that. CommitError when systemd says no."""
        self._tools.run_well(
            "systemd-run",
            "--quiet",
            f"--unit={self.name}",
            f"--description={description}",
            "--service-type=exec",
            "--remain-after-exit",
            "--working-directory=/",
            f"--property=RuntimeMaxSec={timeout_s}",
            f"--property=TimeoutStopSec={STOP_PATIENCE_S}",
            f"--property=SuccessExitStatus={ANY_STATUS}",
            f"--property=SyslogIdentifier={self.name.removesuffix('.service')}",
            *(f"--property={each}" for each in properties),
            "--",
            # systemd puts variables into arguments.
            *(word.replace("$", "$$") for word in program),
        )

    def forget(self) -> None:
        """End what lives of it; afterwards systemd does not know it."""
        self._tools.run("systemctl", "stop", "--", self.name)
        self._tools.run("systemctl", "reset-failed", "--", self.name)

    def wait(self, patience_s: float) -> Shown:
        """Until it is over. CommitError when it is not after `patience_s`."""
        ends = time.monotonic() + patience_s
        while not (shown := self.show()).is_over:
            left = ends - time.monotonic()
            if left <= 0:
                raise CommitError(f"systemd did not end {self.name} within {patience_s:g} s", changed=True)
            if not _wait_for_process(shown.main_pid, left):
                # It stops, or systemd has yet to hear of the end.
                time.sleep(LOOK_AGAIN_S)
        return shown


def _number(facts: dict[str, str], name: str) -> int:
    text = facts.get(name, "")
    return int(text) if text.isdecimal() else 0


def _wait_for_process(pid: int, seconds: float) -> bool:
    """Whether there was something to wait for."""
    try:
        pidfd = os.pidfd_open(pid) if pid else -1
    except ProcessLookupError:
        pidfd = -1
    if pidfd < 0:
        return False
    try:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        poller.poll(int(seconds * 1000) + 1)
    finally:
        os.close(pidfd)
    return True
