# SPDX-License-Identifier: Apache-2.0
"""Owns the attacking process once it is what its policy says: takes one order, makes one attempt, tells, and ends.

Runs in the confinement of the kind that is being proven, in the place of that kind's own module. Everything that a
probe needs is imported here, before the confinement.
"""

import os
import socket
from array import array
from collections.abc import Callable

import msgspec

from ipc.channel import Channel
from ipc.messages import WorkerReady
from supervisor.prove import probes
from supervisor.prove.attempt import BEGINS, Target, Value, outcome, say
from supervisor.spawner.child import SIDE

MOST_ORDER_BYTES = 65536
_RIGHTS_BYTES = socket.CMSG_SPACE(8 * 4)


class Task(msgspec.Struct, frozen=True):
    """What to try. It comes with two descriptors: a file and a folder of root's alone."""

    probe: str
    arguments: dict[str, Value]
    permitted: tuple[str, ...] = ()


def main(channel: Channel | None, lock: Callable[[], None]) -> None:
    """Lock, then attack."""
    # Made before: a locked process may not ask what a descriptor is.
    side = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fileno=os.dup(SIDE))
    lock()
    task, (file, folder) = _receive(side)
    # Whoever ends without having said that has not attacked.
    say(BEGINS)
    target = Target(task.arguments, task.permitted, file, folder, channel)
    if task.probe in probes.THROUGH_THE_CHANNEL and channel is not None:
        if task.probe not in probes.BEFORE_IT_IS_READY:
            channel.send(WorkerReady())
        probes.THROUGH_THE_CHANNEL[task.probe](target)
        return
    say(outcome(probes.PROBES[task.probe], target))


def send_task(side: socket.socket, task: Task, descriptors: tuple[int, int]) -> None:
    """The order, from whoever started the attacking process."""
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))]
    side.sendmsg([msgspec.json.encode(task)], rights)


def _receive(side: socket.socket) -> tuple[Task, tuple[int, int]]:
    packet, ancillary, _, _ = side.recvmsg(MOST_ORDER_BYTES, _RIGHTS_BYTES)
    descriptors = array("i")
    for _, _, data in ancillary:
        descriptors.frombytes(data)
    side.close()
    return msgspec.json.decode(packet, type=Task), (descriptors[0], descriptors[1])
