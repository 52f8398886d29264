# SPDX-License-Identifier: Apache-2.0
"""Owns a worker's end of the socket to its companion, the process beside it that runs programs for it.

Runs in workers that have one, which can start nothing themselves.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from ipc.channel import Channel, PacketChannel
from ipc.descriptors import close_all
from ipc.errors import ChannelClosed, UnpermittedMessage
from ipc.messages import Message, WorkerReady
from ipc.provided import PROGRAMS

# A request with its descriptors, which stay the caller's; the answer to it.
Ask = Callable[[Message, tuple[int, ...]], Message]


@contextmanager
def companion() -> Iterator[Ask]:
    """The process that the spawner has started beside this one, once it is confined and ready; it ends with the block.

    To be entered before the worker says itself that it is ready: both are checked together. Without it there is nothing
    to do: the process ends, and so it does whenever its companion ends first."""
    channel = PacketChannel(socket.socket(fileno=PROGRAMS))
    try:
        greeting, descriptors = channel.receive()
        close_all(descriptors)
        if not isinstance(greeting, WorkerReady):
            raise UnpermittedMessage(f"a companion that begins with {type(greeting).__name__}")
        yield partial(_ask, channel)
    except ChannelClosed:
        raise SystemExit(os.EX_UNAVAILABLE) from None
    finally:
        channel.close()


def _ask(channel: Channel, request: Message, descriptors: tuple[int, ...]) -> Message:
    channel.send(request, descriptors)
    answer, given = channel.receive()
    close_all(given)
    return answer
