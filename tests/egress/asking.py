# SPDX-License-Identifier: Apache-2.0
"""Takes the supervisor's place: puts the rule in force as it does, and asks the host until it is killed.

Runs in a lab, started by the real spawner. For each request it writes a byte to ASKED: "?" before, "." after an answer,
"x" after any trouble. With an argument of the spawner's it compares instead (`compare`), and writes JSON.
"""

import os
import socket
import sys
import time
from typing import Any

import msgspec

from ipc.descriptors import close_all
from ipc.errors import HostError
from ipc.messages import Committed, EgressGuarded, GuardEgress, Message, OpenEgress
from policy.load import load
from supervisor.births import Births
from supervisor.clock import SystemClock
from supervisor.config import parse
from supervisor.dispatch import Table
from supervisor.egress.guard import Guard
from supervisor.egress.guests import Guests
from supervisor.egress.sockets import Sockets
from supervisor.egress.wanted import wanted
from supervisor.files import make_folder
from supervisor.fleet import Fleet
from supervisor.layout import Layout
from supervisor.loop import Loop
from supervisor.main import SPAWNER_FD
from supervisor.wire.endpoint import WIRE_SERVER
from supervisor.wire.host import Patience, WireServer
from supervisor.wire.retry import RetryPolicy

ASKED = "/run/agent-supervisor/asked"
COMPARED = "/run/agent-supervisor/compared"
# A block with the rule, a block without, in turn: what else the machine does hits both.
BLOCKS, REQUESTS = 12, 250
# Less than any load takes.
UNDER_WAY_S, ELSEWHERE = 0.01, "168.63.129.17"
ONCE = Patience(questions=RetryPolicy(attempts=1))


class Asker:
    """A supervisor that has nothing else to do."""

    def __init__(self) -> None:
        self.said = ""
        layout = Layout()
        for folder, mode in ((layout.run, 0o755), (layout.channels, 0o711)):
            make_folder(folder, mode)
        self._loop = loop = Loop(SystemClock())
        profiles = {compiled.profile.kind: compiled.profile for compiled in load().programs}
        workers = {kind: profile for kind, profile in profiles.items() if kind not in {"supervisor", "spawner"}}
        births = Births(loop, Table(workers.values()), socket.socket(fileno=SPAWNER_FD), layout, self._say)
        self._fleet = Fleet(loop, workers, births, lambda: 0.5, self._say)
        config = parse("Provisioning.Agent=waagent\n").config
        self._wanted = wanted(config, WIRE_SERVER, profiles["wire-socket"].identity.uid)
        guests, sockets = Guests(config, "/var/lib/waagent"), Sockets(loop, self._fleet)
        self._guard = Guard(loop, self._fleet, sockets, self._wanted, guests, self._say, lambda _: None)

    def ask(self) -> None:
        """Until it is killed."""
        self._loop.start("asking", self._ask(), detached=True)
        self._loop.run()

    def compare(self) -> None:
        """Seconds of each request, of blocks with the rule and without; then until it is killed."""
        self._loop.start("comparing", self._compare(), detached=True)
        self._loop.run()

    def move(self) -> None:
        """Another address in the midst of the first load: what was in force when the first socket was given."""
        self._loop.start("moving", self._move(), detached=True)
        self._loop.run()

    async def _move(self) -> None:
        self._loop.start("guard", self._guard.begin(), detached=True)
        await self._loop.sleep(UNDER_WAY_S)
        assert not self._guard.status.mechanism
        self._guard.protect(ELSEWHERE)
        (await self._guard.take_socket()).close()
        _place(COMPARED, self.said.encode())

    async def _ask(self) -> None:
        await self._guard.begin()
        assert self._guard.status.mechanism, self._guard.status.why
        host = WireServer(self._loop, WIRE_SERVER, patience=ONCE, make_socket=self._guard.take_socket)
        asked = os.open(ASKED, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        while True:
            os.write(asked, b"?")
            try:
                await host.fetch_goal_state()
            except HostError as error:
                self._say("error", "host", str(error))
                os.write(asked, b"x")
            else:
                os.write(asked, b".")

    async def _compare(self) -> None:
        results: dict[str, list[list[float]]] = {"with": [], "without": []}
        for number in range(2 * BLOCKS):
            name: str = "with" if number % 2 else "without"
            rule = GuardEgress(self._wanted.rule("nft-cgroup"))
            order: Message = rule if name == "with" else OpenEgress()
            answer, descriptors = (await self._fleet.do("egress", order, final=(EgressGuarded, Committed)))[-1]
            close_all(descriptors)
            assert isinstance(answer, EgressGuarded | Committed), answer
            results[name].append(await self._block())
        _place(COMPARED, msgspec.json.encode(results))

    async def _block(self) -> list[float]:
        host = WireServer(self._loop, WIRE_SERVER, patience=ONCE)
        await host.fetch_goal_state()
        seconds = []
        for _ in range(REQUESTS):
            began = time.perf_counter()
            await host.fetch_goal_state()
            seconds.append(time.perf_counter() - began)
        host.close()
        return seconds

    def _say(self, level: str, source: str, text: str) -> None:
        self.said = text
        sys.stderr.write(f"{level} {source}: {text}\n")


def _place(path: str, content: bytes) -> None:
    """As a whole."""
    with open(f"{path}.new", "wb") as file:  # noqa: PTH123
        file.write(content)
    os.rename(f"{path}.new", path)  # noqa: PTH104


def main() -> Any:
    """Its argument is that of the spawner: what it would be the settings of."""
    asker = Asker()
    {"compare": asker.compare, "move": asker.move, "ask": asker.ask}[sys.argv[1]]()


if __name__ == "__main__":
    main()
