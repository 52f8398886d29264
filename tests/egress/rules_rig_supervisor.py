# SPDX-License-Identifier: Apache-2.0
"""The supervisor of the rules' rig: has the rule loaded by a real committer, and tries it from within.

Runs in the supervisor's place and confinement.
"""

import select
import socket
import struct
from typing import Any

from tests.jail.rig_commands import Commands
from tests.jail.rig_supervisor import serve

PATIENCE_S = 0.5


class Rules(Commands):
    """The rig's commands, and those about the rule."""

    _watch: socket.socket | None = None
    _canary: socket.socket | None = None
    _held: socket.socket | None = None

    async def on_order(self, frame: str, final: list[str]) -> dict[str, Any]:  # type: ignore[override] # another order
        """An order to the egress committer; its answer. What came with it is kept."""
        from ipc.codec import decode, encode
        from tests.fabric.vocabulary import BY_NAME

        if self._canary is not None:
            self._canary.close()
        ends = tuple(BY_NAME[name] for name in final)
        received = await self._fleet.do("egress", decode(bytes.fromhex(frame)).message, final=ends)
        answer, descriptors = received[-1]
        if len(descriptors) == 2:
            self._watch, self._canary = (socket.socket(fileno=descriptor) for descriptor in descriptors)
        return {"frame": encode(answer, 0).hex()}

    async def on_heard(self) -> dict[str, Any]:
        """How many bytes the watch has to tell."""
        await self._loop.sleep(0)
        assert self._watch is not None
        readable = select.poll()
        readable.register(self._watch, select.POLLIN)
        return {"heard": len(self._watch.recv(1 << 16)) if readable.poll(0) else 0}

    async def on_canary(self, by_uid: bool = False) -> dict[str, Any]:
        """Whether the supervisor reaches the canary."""
        assert self._canary is not None
        return {"outcome": _say(await self._socket(by_uid=by_uid), self._canary.getsockname(), b"")[0]}

    async def on_reach(self, address: str, port: int, by_uid: bool = False) -> dict[str, Any]:
        """What a request of the supervisor's comes to."""
        made = await self._socket(by_uid=by_uid)
        outcome, port = _say(made, (address, port), b"now\n")
        return {"outcome": outcome, "port": port}

    async def on_hold(self, address: str, port: int, by_uid: bool = False) -> dict[str, Any]:
        """Open a connection, ask for an answer on it later, and keep it."""
        self._held = await self._socket(by_uid=by_uid)
        self._held.settimeout(PATIENCE_S)
        self._held.connect((address, port))
        self._held.sendall(b"later\n")
        return {"port": self._held.getsockname()[1]}

    async def on_held(self) -> dict[str, Any]:
        """What came on it since."""
        await self._loop.sleep(0)
        assert self._held is not None
        try:
            return {"outcome": self._held.recv(100).decode()}
        except OSError as error:
            return {"outcome": type(error).__name__}

    async def _socket(self, *, by_uid: bool) -> socket.socket:
        from ipc.messages import MakeSockets, SocketsMade

        if not by_uid:
            return socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        received = await self._fleet.do("wire-socket", MakeSockets(), final=(SocketsMade,))
        made = [socket.socket(fileno=descriptor) for descriptor in received[-1][1]]
        for each in made[1:]:
            each.close()
        return made[0]


def _say(made: socket.socket, place: Any, text: bytes) -> tuple[str, int]:
    """(answer or name of the error, own port) of a connection that is ended."""
    with made:
        made.settimeout(PATIENCE_S)
        # As the agent's own client: it never closes first, but by a reset.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        try:
            made.connect(place)
            port = made.getsockname()[1]
            if not text:
                return "connected", port
            made.sendall(text)
            return made.recv(100).decode(), port
        except OSError as error:
            return type(error).__name__, 0


if __name__ == "__main__":
    serve(lambda: Rules)
