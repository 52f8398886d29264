# SPDX-License-Identifier: Apache-2.0
"""Owns the supervisor's confinement from its exec on, with a probe in the place of the supervisor's work.

A program by itself, as the supervisor is: `python -I -m supervisor.prove.resident_within`, descriptors 3 and 4 are the
packet socket and the compiled policy, its arguments the controls to leave out. It seals and locks itself as
supervisor/main.py does.
"""

import socket
import sys

import msgspec

from ipc.channel import PacketChannel
from ipc.descriptors import read_sealed
from policy.placeholders import LIB, NOTIFY
from policy.profile import Compiled
from supervisor.jail import capabilities
from supervisor.jail.resident_tree import seal_resident
from supervisor.jail.shedding import lock_resident
from supervisor.layout import Layout
from supervisor.prove import within
from supervisor.spawner.child import FILTER, SIDE

MOST_POLICY_BYTES = 1 << 20
# Without the one there is not the other.
UNSEALED = frozenset({"view", "mount-namespace"})


def main() -> None:
    """Lock, then attack."""
    capabilities.forbid_dump()
    compiled = msgspec.msgpack.decode(read_sealed(FILTER, MOST_POLICY_BYTES), type=Compiled)
    channel = PacketChannel(socket.socket(fileno=SIDE))
    places = {LIB: (Layout().lib,), NOTIFY: ()}
    if not UNSEALED.intersection(sys.argv[1:]):
        seal_resident(compiled.profile, places, sys.path)

    def lock() -> None:
        lock_resident(compiled, places)

    within.main(channel, lock)


if __name__ == "__main__":
    main()
