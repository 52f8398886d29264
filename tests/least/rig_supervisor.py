# SPDX-License-Identifier: Apache-2.0
"""The supervisor of the experiments' rig: the rig's own, which can also have one worker do one job and say all of it.

Runs in the supervisor's place and confinement. A job is tried once, and whatever ends it is the answer.
"""

import os
import socket
from collections import deque
from typing import TYPE_CHECKING, Any

from tests.jail.rig_supervisor import serve

if TYPE_CHECKING:
    from tests.least.trials import Trials

# Whose answers nobody reads, and who stay until the next one comes.
CLIENTS: deque[socket.socket] = deque(maxlen=4)


def _trials() -> "type[Trials]":
    from tests.least.trials import Trials

    return Trials


def descriptor_of(given: list[Any]) -> int:
    """A descriptor as the test asked for it: ["memfd", content in hex], ["file", path] or ["record", path]; or
    ["listener", content in hex], at which somebody has sent that."""
    from ipc.descriptors import sealed_memfd

    how, what = given
    if how == "memfd":
        return sealed_memfd("job", bytes.fromhex(what))
    if how == "listener":
        return _listener(bytes.fromhex(what))
    return os.open(what, (os.O_RDWR if how == "record" else os.O_RDONLY) | os.O_CLOEXEC)


def _listener(content: bytes) -> int:
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    client.sendall(content)
    CLIENTS.append(client)
    return listener.detach()


if __name__ == "__main__":
    serve(_trials)
