# SPDX-License-Identifier: Apache-2.0
"""Owns the processes in whose place others would be harmed: a worker of another kind and a supervisor, with secrets.

Runs in forks of a lane, which end with it.
"""

import os
import select

import msgspec

from supervisor.jail import capabilities
from supervisor.prove import raw
from supervisor.prove.probes_processes import SECRET


class Decoy(msgspec.Struct, frozen=True):
    """A process that waits for its end, and where its secret lies."""

    pid: int
    address: int


def begin(uid: int) -> Decoy:
    """Fork a decoy that runs as `uid`, without a capability and with descriptors of its own."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            address, _kept = raw.address_of(SECRET)
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            capabilities.die_with_parent()
            if uid == 0:
                capabilities.limit_to(frozenset())
            os.write(writer, str(address).encode())
            select.poll().poll()
        finally:
            os._exit(0)
    os.close(writer)
    address = int(os.read(reader, 64))
    os.close(reader)
    return Decoy(pid, address)
