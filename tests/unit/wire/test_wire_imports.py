# SPDX-License-Identifier: Apache-2.0
"""What the client brings into the resident root process."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
BANNED = {"ssl", "http", "email", "urllib", "asyncio", "logging", "pathlib", "xml"}
PROGRAM = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import zmq, msgspec, supervisor.loop
before = set(sys.modules)
import supervisor.wire.host
print(*sorted(set(sys.modules) - before))
"""


def test_nothing_heavy_is_loaded() -> None:
    run = subprocess.run([sys.executable, "-I", "-c", PROGRAM], capture_output=True, text=True, timeout=30, check=True)
    added = set(run.stdout.split())
    assert "h11" in added
    assert not {name for name in added if name.partition(".")[0] in BANNED}
