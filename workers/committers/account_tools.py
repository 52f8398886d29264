# SPDX-License-Identifier: Apache-2.0
"""Owns how the account tools are started: again and again for a while, when all that stops one is another's lock.

Runs in committers. A tool that was killed a moment ago may still hold its lock until its process is reaped.
"""

import time
from pathlib import Path

from ipc.errors import CommitError
from workers.committers.lock_files import holder
from workers.committers.tools import Outcome, Tools

PATIENCE_S = 5.0
PAUSE_S = 0.05


def run_past_locks(
    tools: Tools, name: str, *arguments: str, stdin: bytes = b"", patience_s: float = PATIENCE_S
) -> Outcome:
    """As `Tools.run`, repeated while the tool says that an account file is locked, for at most `patience_s`: then it is
    a CommitError. (The tools themselves wait for 15 s for the lock of lckpwdf(3) before they say so.)"""
    deadline = time.monotonic() + patience_s
    while True:
        held = holder(Path("/"))
        outcome = Outcome(1, f"lock: {held}") if held else tools.run(name, *arguments, stdin=stdin)
        if outcome.status == 0 or "lock" not in outcome.output:
            return outcome
        if time.monotonic() > deadline:
            if held:
                raise CommitError(f"the account files stay locked by another program; {held}")
            raise CommitError(f"the account files can't be locked; {name} says: {outcome.output}")
        time.sleep(PAUSE_S)
