# SPDX-License-Identifier: Apache-2.0
"""Owns a companion's life after confinement: lock, say ready, answer one request after the other, end with its worker.

Runs in every companion. A request that breaks a rule ends the process, and with it the worker that sent it.
"""

import os
import sys
from collections.abc import Callable

from ipc.channel import Channel
from ipc.descriptors import close_all
from ipc.errors import ChannelClosed, ProtocolViolation
from ipc.messages import Message, WorkerReady

Answer = Callable[[Message, tuple[int, ...]], Message]


def serve(channel: Channel, lock: Callable[[], None], answer: Answer) -> None:
    """Until the worker at the other end is gone. `answer` gets a request and its descriptors, which stay ours.

    `lock` loads the final system-call filter and comes before the first request."""
    lock()
    try:
        channel.send(WorkerReady())
        while True:
            request, descriptors = channel.receive()
            try:
                channel.send(answer(request, descriptors))
            finally:
                close_all(descriptors)
    except ChannelClosed:
        return
    except ProtocolViolation as error:
        sys.stderr.write(f"refused: {error}\n")
        raise SystemExit(os.EX_PROTOCOL) from None
    finally:
        channel.close()
