# SPDX-License-Identifier: Apache-2.0
"""Owns the first instructions of a worker that was started by exec in its finished confinement.

Runs in that worker. It takes back what an exec resets (dumpable) before it reads a byte from outside.
"""

from supervisor import lean  # noqa: I001 - before msgspec is imported by anything below
import os
import socket
import sys
from importlib import import_module

from ipc.channel import PacketChannel
from ipc.descriptors import read_sealed
from supervisor.jail import capabilities
from supervisor.spawner.child import FILTER, SIDE, work

MAX_FILTER_BYTES = 32768


def main() -> None:
    """Become the worker whose module is the first argument."""
    capabilities.forbid_dump()
    locked_filter = read_sealed(FILTER, MAX_FILTER_BYTES)
    os.close(FILTER)
    os.set_inheritable(SIDE, False)
    module = lean.import_worker(sys.argv[1])
    for name in getattr(module, "LATER", ()):
        # No spawner carries it for this process, and soon no file can be opened.
        import_module(name)
    lean.loaded()
    work(module.main, PacketChannel(socket.socket(fileno=SIDE)), locked_filter)


if __name__ == "__main__":
    main()
