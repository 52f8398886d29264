# SPDX-License-Identifier: Apache-2.0
"""Owns the first instructions of a worker that was started by exec in its finished confinement.

Runs in that worker. It takes back what an exec resets (dumpable) before it reads a byte from outside.
"""

import os
import socket
import sys

from ipc.channel import PacketChannel
from ipc.descriptors import read_sealed
from supervisor.jail import capabilities
from supervisor.spawner.child import FILTER, SIDE, run_module

MAX_FILTER_BYTES = 32768


def main() -> None:
    capabilities.forbid_dump()
    locked_filter = read_sealed(FILTER, MAX_FILTER_BYTES)
    os.close(FILTER)
    os.set_inheritable(SIDE, False)
    run_module(sys.argv[1], PacketChannel(socket.socket(fileno=SIDE)), locked_filter)


if __name__ == "__main__":
    main()
