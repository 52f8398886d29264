# SPDX-License-Identifier: Apache-2.0
"""Carries out committers' orders in a lab, for tests: one process there takes frames, each child of it one order.

Without the policy's confinement: what is tested this way is what the real tools make of it, case by case.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import partial
from types import TracebackType

from ipc.codec import decode, encode
from ipc.errors import CommitError
from ipc.messages import (
    CommitAccount,
    CommitKeys,
    CommitLabels,
    CommitPassword,
    CommitRootLock,
    CommitSshd,
    CommitSudo,
    Message,
)
from supervisor.jail.beneath import open_beneath
from tests.fabric.lab import PROJECT, Lab
from tests.unit.committers.programs_here import perform
from workers.committers.account import make_account
from workers.committers.commit import Act
from workers.committers.home_keys import place_keys
from workers.committers.labels import label
from workers.committers.password import set_password
from workers.committers.root_lock import lock_root
from workers.committers.sshd import configure_sshd
from workers.committers.sudoers import grant_sudo

ACTS: Mapping[type[Message], Act] = {
    CommitAccount: make_account,
    CommitKeys: partial(place_keys, open_beneath),
    CommitLabels: label,
    CommitPassword: set_password,
    CommitRootLock: lock_root,
    CommitSshd: configure_sshd,
    CommitSudo: grant_sudo,
}


class Failed(Exception):
    """The committer failed; `changed` as it told."""

    def __init__(self, problem: str, changed: bool) -> None:
        super().__init__(problem)
        self.changed = changed


class Committers:
    """The process in `lab`; use as a context manager, inside the lab's own."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def __enter__(self) -> "Committers":
        words = [sys.executable, "-m", "tests.unit.committers.commit_here"]
        pipe = subprocess.PIPE
        self._process = self.lab.popen(words, cwd=str(PROJECT), stdin=pipe, stdout=pipe)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=10)

    def commit(self, order: Message) -> tuple[str, list[str]]:
        """Have `order` carried out: the fact for the log, and the paths written. Failed when it says so."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        frame = encode(order, 0)
        self._process.stdin.write(len(frame).to_bytes(4) + frame)
        self._process.stdin.flush()
        outcome = json.loads(self._process.stdout.readline())
        if "problem" in outcome:
            raise Failed(outcome["problem"], outcome["changed"])
        return outcome["fact"], outcome["paths"]


def main() -> None:
    """The process in the lab: until its input ends."""
    while head := sys.stdin.buffer.read(4):
        order = decode(sys.stdin.buffer.read(int.from_bytes(head))).message
        child = os.fork()
        if child == 0:
            print(json.dumps(_outcome(order)), flush=True)
            os._exit(0)
        os.waitpid(child, 0)


def _outcome(order: Message) -> dict[str, object]:
    try:
        committed = perform(ACTS[type(order)], order)
    except CommitError as error:
        return {"problem": error.problem, "changed": error.changed}
    return {"fact": committed.fact, "paths": [change.path for change in committed.changes]}


if __name__ == "__main__":
    main()
