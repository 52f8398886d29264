# SPDX-License-Identifier: Apache-2.0
"""Owns the custom data of a provisioning (provisioning.md 8): stored for others to read and, if configured, run once.

Runs in the supervisor, which looks at the first bytes to tell a script from data and reads no further. It must never
order a second run: the record that goes with the order tells the committer how far the first one came.
"""

import os
from collections.abc import Callable

from ipc.errors import CommitError, StateError
from ipc.messages import CommitCustomData
from supervisor import options
from supervisor.config import Config
from supervisor.files import write_whole
from supervisor.journal import Journal
from supervisor.layout import Layout
from supervisor.steps import Steps

FILE = "CustomData"
# The journal's name for the step.
RUN = "custom data run"
STORED, RUNNABLE, RECORD = 0o600, 0o700, 0o600
SYSTEMD = "/run/systemd/system"
# For the committer to notice an end that somebody else enforces.
MARGIN_S = 60.0
# How data begin that are cloud-init's to read (its documentation, "User data formats"), lower case.
NOT_SCRIPTS = {
    b"#cloud-": "is cloud-init's to read",
    b"#include": "is a list for cloud-init",
    b"#part-handler": "is a part of cloud-init's",
    b"## template:": "is a template for cloud-init",
    b"content-type:": "is a MIME message",
    b"mime-version:": "is a MIME message",
}

Say = Callable[[str, str, str], None]


class CustomData:
    """The custom data of one VM."""

    def __init__(self, steps: Steps, journal: Journal, config: Config, layout: Layout, say: Say) -> None:
        """`say` takes (level, source, text) for the log."""
        self._steps = steps
        self._journal = journal
        self._config = config
        self._layout = layout
        self._say = say
        self._path = f"{layout.lib}/{FILE}"

    async def handle(self, content: bytes, tell: Callable[[str], None]) -> None:
        """Store `content`, and run it if that is configured and it is a script; `tell` is for `ps`.

        Whatever comes of the run, provisioning goes on. StateError when it can't be stored; AgentError when the agent
        itself could not see to it, which another start can do."""
        execute = self._config[options.EXECUTE_CUSTOM_DATA]
        write_whole(self._path, content, RUNNABLE if execute else STORED)
        self._say("info", "provisioning", f"custom data stored, {len(content)} bytes")
        if not execute:
            return
        reason = why_not_run(content)
        if reason:
            self._say("warning", "provisioning", f"custom data is in {self._path} and is not run: it {reason}")
            return
        try:
            await self._run(with_shell=not content.startswith(b"#!"), tell=tell)
        except CommitError as error:
            problem = f"custom data is in {self._path} and could not be run: {error}; provisioning goes on"
            self._say("error", "provisioning", problem)

    async def _run(self, *, with_shell: bool, tell: Callable[[str], None]) -> None:
        step = self._journal.state.steps.get(RUN)
        if step is not None and step.done:
            return
        timeout_s = self._config[options.CUSTOM_DATA_TIMEOUT]
        order = CommitCustomData(self._path, with_shell, timeout_s, (self._layout.state, self._layout.run))
        kind = "custom-data" if os.path.isdir(SYSTEMD) else "custom-data-here"
        record = self._open_record()
        try:
            await self._steps.take(
                RUN,
                kind,
                order,
                lambda: tell(f"runs the custom data, for {timeout_s} s at most"),
                descriptors=(record,),
                deadline_s=timeout_s + MARGIN_S,
            )
        finally:
            os.close(record)

    def _open_record(self) -> int:
        path = self._layout.custom_data_record
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, RECORD)
        except OSError as error:
            raise StateError(f"{path} can't be opened: {error.strerror}") from None


def why_not_run(content: bytes) -> str:
    """Why `content` is no script that can be run, to follow "it"; empty when it is one.

    What names its interpreter is a program, binary or not; all other text is for the shell, as the reference has it."""
    if content.startswith(b"#!"):
        return ""
    if not content.strip():
        return "is empty"
    beginning = content[:32].lower()
    for mark, reason in NOT_SCRIPTS.items():
        if beginning.startswith(mark):
            return reason
    try:
        is_text = "\0" not in content.decode("utf-8")
    except UnicodeDecodeError:
        is_text = False
    return "" if is_text else "is binary and names no interpreter by #!"
