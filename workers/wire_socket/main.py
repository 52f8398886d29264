# SPDX-License-Identifier: Apache-2.0
"""Makes TCP sockets under a uid of their own and hands them over: the kernel remembers under whom a socket was made.

Runs in the wire-socket worker, in the host's network. It never connects, binds or reads one: it has no call for that.
"""

import socket
from collections.abc import Callable, Iterable

from ipc.channel import Channel
from ipc.descriptors import close_all
from ipc.messages import MakeSockets, SocketsMade
from workers.runtime import Answer, serve_once


def on_make_sockets(request: MakeSockets, descriptors: tuple[int, ...]) -> Iterable[Answer]:
    """The sockets, all in one answer."""
    close_all(descriptors)
    made = (socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) for _ in range(request.count))
    yield SocketsMade(), tuple(each.detach() for each in made)


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry (workers.runtime)."""
    serve_once(channel, lock, {MakeSockets: on_make_sockets})
