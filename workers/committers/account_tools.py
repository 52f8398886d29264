# SPDX-License-Identifier: Apache-2.0
"""Owns how the account tools are started: again and again for a while, when all that stops one is another's lock.

Runs in committers. A tool that was killed a moment ago may still hold its lock until its process is reaped.
"""

import time

from workers.committers.tools import Outcome, Tools

PATIENCE_S = 5.0
PAUSE_S = 0.05


def run_past_locks(
    tools: Tools, name: str, *arguments: str, stdin: bytes = b"", patience_s: float = PATIENCE_S
) -> Outcome:
    """As `Tools.run`, repeated while the tool says that an account file is locked, for at most `patience_s`."""
    deadline = time.monotonic() + patience_s
    while True:
        outcome = tools.run(name, *arguments, stdin=stdin)
        if outcome.status == 0 or "lock" not in outcome.output or time.monotonic() > deadline:
            return outcome
        time.sleep(PAUSE_S)
