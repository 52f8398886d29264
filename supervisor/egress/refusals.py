# SPDX-License-Identifier: Apache-2.0
"""Owns the record of those whom the rule refuses, or in mode observe would refuse: named once a minute, counted always.

Runs in the supervisor, on the kernel's log of refused packets. Whoever floods it gets a number, no line for each.
"""

import os
from collections import deque
from collections.abc import Callable

from ipc.descriptors import close_all
from ipc.errors import AgentError
from ipc.messages import Connector, HearRefusals, NameConnector, RefusalsHeard
from supervisor.audit_log_entry import Audit, Entry
from supervisor.egress.refused_packet import RefusedPacket, refused_packets
from supervisor.fleet import Fleet
from supervisor.loop import Loop

COMMITTER = "egress"
SAID_EVERY_S = 60.0
# Different ones that are remembered; beyond that they only count.
MOST_NAMED = 32
MOST_BYTES = 16384
# Processes that wait to be named; naming one takes a worker, so there is a pause after each.
MOST_ASKED = 8
PAUSE_S = 0.2
# Reads at one wake-up: a flood must not keep the loop from its other work.
MOST_READS = 16


class Refusals:
    """`count` of first packets that the log told of; it tells of ten a second at most."""

    def __init__(self, loop: Loop, fleet: Fleet, say: Callable[[str, str, str], None], audit: Audit) -> None:
        self.count = 0
        self._loop = loop
        self._fleet = fleet
        self._say = say
        self._audit = audit
        self._descriptor = -1
        self._observes = False
        self._asked: deque[tuple[RefusedPacket, int]] = deque()
        self._said: dict[str, tuple[float, int]] = {}

    async def begin(self, *, observes: bool) -> None:
        """Have the log opened, and listen; where that can't be, refusals are neither counted nor named."""
        try:
            answer, descriptors = (await self._fleet.do(COMMITTER, HearRefusals(), final=(RefusalsHeard,)))[-1]
        except AgentError as error:
            self._say("warning", "firewall", f"whoever is refused can't be told: {error}")
            return
        if not isinstance(answer, RefusalsHeard):
            close_all(descriptors)
            self._say("warning", "firewall", f"whoever is refused can't be told: {answer}")
            return
        self.listen(descriptors[0], observes=observes)

    def listen(self, descriptor: int, *, observes: bool) -> None:
        """Read `descriptor`, which is ours from now on."""
        self._descriptor, self._observes = descriptor, observes
        os.set_blocking(descriptor, False)
        self._loop.watch(descriptor, self._on_log)

    def _on_log(self) -> None:
        for _ in range(MOST_READS):
            try:
                datagram = os.read(self._descriptor, MOST_BYTES)
            except BlockingIOError:
                return
            except OSError:  # the kernel had no room for all of it: some are not counted
                continue
            for packet in refused_packets(datagram):
                self._take(packet)

    def _take(self, packet: RefusedPacket) -> None:
        self.count += 1
        if packet.uid is None:
            self._tell(f"a process behind {packet.source}, passed on by this machine", packet.port)
        elif self._observes and len(self._asked) < MOST_ASKED:
            # Only a connection that was let through is still there to be asked about.
            self._asked.append((packet, packet.uid))
            if len(self._asked) == 1:
                self._loop.start("witness", self._name_all(), detached=True)
        else:
            self._tell(f"a process of uid {packet.uid}", packet.port)

    async def _name_all(self) -> None:
        """One after the other; more than may wait are told by uid alone."""
        while self._asked:
            await self._name(*self._asked[0])
            await self._loop.sleep(PAUSE_S)
            self._asked.popleft()

    async def _name(self, packet: RefusedPacket, uid: int) -> None:
        try:
            question = NameConnector(packet.source_port, uid)
            answer = (await self._fleet.do("witness", question, final=(Connector,)))[-1][0]
        except AgentError as error:
            self._tell(f"a process of uid {uid} ({error})", packet.port)
            return
        if isinstance(answer, Connector) and answer.pid:
            what = answer.program or answer.name
            self._tell(f"{what} (uid {uid}, {answer.cgroup or 'no cgroup'})", packet.port, answer.pid)
        else:
            self._tell(f"a process of uid {uid}, which has ended,", packet.port)

    def _tell(self, who: str, port: int, pid: int = 0) -> None:
        """One line and one record for the same one in a minute."""
        now = self._loop.clock.monotonic()
        what = f"{who} to port {port}"
        said_at, untold = self._said.get(what, (float("-inf"), 0))
        if now - said_at < SAID_EVERY_S:
            self._said[what] = said_at, untold + 1
            return
        if len(self._said) >= MOST_NAMED:
            self._said = {key: kept for key, kept in self._said.items() if now - kept[0] < SAID_EVERY_S}
        if len(self._said) >= MOST_NAMED:
            return
        self._said[what] = now, 0
        verb = "would be refused, and was let through" if self._observes else "was refused"
        more = f"; {untold} times more since it was last said" if untold else ""
        self._say("warning", "firewall", f"{what} {verb}{f', pid {pid}' if pid else ''}{more}")
        self._audit(Entry("refusal", pid=pid, detail=f"{what} {verb}{more}"))
