# SPDX-License-Identifier: Apache-2.0
"""Flushes all nftables rules and times how long somebody else gets through: `python -m tests.bench.flusher TIMES`.

Runs in a lab, as root outside the agent; prints seconds as JSON.
"""

import json
import socket
import subprocess
import sys
import time

PLACE = ("168.63.129.16", 80)


def main() -> None:
    """One flush after the other, as soon as the one before is mended: the worst for whoever mends it at a pace."""
    seconds = []
    for _ in range(int(sys.argv[1])):
        began = time.perf_counter()
        subprocess.run(["nft", "flush", "ruleset"], check=True)
        while _passes():
            pass
        seconds.append(time.perf_counter() - began)
    print(json.dumps(seconds))


def _passes() -> bool:
    with socket.socket() as made:
        made.settimeout(2)
        return made.connect_ex(PLACE) == 0


if __name__ == "__main__":
    main()
