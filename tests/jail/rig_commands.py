# SPDX-License-Identifier: Apache-2.0
"""Owns what the rig's supervisor does on command; runs in the rig's second process, after its mutants are in place."""

import contextlib
import json
import os
import resource
from collections.abc import Mapping
from pathlib import Path
from socket import AF_UNIX, socket
from typing import TYPE_CHECKING, Any

import msgspec

from ipc.descriptors import close_all, sealed_memfd, send_packet
from ipc.errors import AgentError
from ipc.messages import Message, ParseVersions, PlanProvisioning, Versions
from ipc.records import EVENT_BYTES, Op, Order, pack_order, unpack_event
from policy.profile import Profile
from supervisor import planning, vm_identity
from supervisor.audit_log import AuditLog, Surroundings
from supervisor.audit_log_entry import Entry
from supervisor.births import Births
from supervisor.clock import SystemClock
from supervisor.dispatch import Table
from supervisor.fleet import Fleet
from supervisor.layout import Layout
from supervisor.loop import Loop
from tests.fabric.vocabulary import BY_NAME

if TYPE_CHECKING:
    from supervisor.worker import Worker

TICK_S = 0.005
SECRET, FOLDER = "/run/rig/secret", "/run/rig/folder"


class Commands:
    """The fleet, steered by the test."""

    def __init__(self, profiles: Mapping[str, Profile], spawner: socket, phase: Any) -> None:
        layout = Layout()
        for folder, mode in ((layout.run, 0o755), (layout.channels, 0o711)):
            Path(folder).mkdir(exist_ok=True)
            Path(folder).chmod(mode)
        workers = {kind: profile for kind, profile in profiles.items() if kind not in {"supervisor", "spawner"}}
        self._loop = Loop(SystemClock())
        self._loop.on_failure(lambda name, error: _answer(id=-1, error=type(error).__name__, text=f"{name}: {error}"))
        table = Table(workers.values())
        table.advance(phase)
        self._lines: list[str] = []
        around = Surroundings(self._loop.clock, vm_identity.boot_id(), str, self._loop.call_later, self._say)
        self._audit_log = AuditLog(layout.audit_log, around)
        self._recorded: list[str] = []
        self._births = Births(self._loop, table, spawner, layout, self._say, self._record)
        self._fleet = Fleet(self._loop, workers, self._births, lambda: 0.5, self._say)
        self._spawner = spawner
        self._kept: dict[int, Worker] = {}
        self._rest = b""
        self._late_s = 0.0
        self._besieged = True
        # What others on this machine listen at, for workers to try.
        self._abstract = socket(AF_UNIX)
        self._abstract.bind("\0rig")
        self._abstract.listen(8)

    def serve(self) -> None:
        """Until stdin closes."""
        self._loop.watch(0, self._read)
        self._tick(self._loop.clock.monotonic())
        _answer(id=0, pid=os.getpid(), spawner=os.getppid())
        self._loop.run()

    def _tick(self, due: float) -> None:
        """Keeps the longest time by which the loop was late."""
        now = self._loop.clock.monotonic()
        self._late_s = max(self._late_s, now - due)
        self._loop.call_later(TICK_S, lambda: self._tick(now + TICK_S))

    def _record(self, entry: Entry) -> None:
        self._audit_log(entry)
        if entry.event in {"violation", "worker-hung"}:
            self._recorded.append(f"{entry.event} {entry.worker}: {entry.detail}")

    def _say(self, level: str, source: str, text: str) -> None:
        self._lines.append(f"{level} {source}: {text}")

    def _read(self) -> None:
        piece = os.read(0, 65536)
        if not piece:
            self._loop.stop()
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            command = json.loads(line)
            self._loop.start(command["do"], self._obey(command), detached=True)

    async def _obey(self, command: dict[str, Any]) -> None:
        name, number = command.pop("do"), command.pop("id")
        try:
            result = await getattr(self, f"on_{name}")(**command)
        except (AgentError, OSError) as error:
            result = {"error": type(error).__name__, "text": str(error)}
        # One more turn: what a worker wrote to its log before its answer may be behind it in this one.
        await self._loop.sleep(0)
        _answer(id=number, **result, **self._health())

    def _health(self) -> dict[str, Any]:
        lines, self._lines = self._lines, []
        late, self._late_s = self._late_s, 0.0
        recorded, self._recorded = self._recorded, []
        return {
            "log": lines,
            "late_s": late,
            "violations": self._fleet.violations,
            "recorded": recorded,
            "descriptors": len(os.listdir("/proc/self/fd")),  # noqa: PTH208
            "peak_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            "alive": len(self._births.workers),
        }

    async def on_status(self) -> dict[str, Any]:
        await self._loop.sleep(0)
        return {}

    async def on_start(self, kind: str) -> dict[str, Any]:
        """A worker that stays alive, waiting for its request."""
        worker = await self._fleet.start(kind)
        self._kept[worker.serial] = worker
        return {
            "serial": worker.serial,
            "name": worker.name,
            "pid": worker.pid,
            "uid": worker.uid,
            "missing": worker.missing,
            "companion": worker.companion,
        }

    async def on_finish(self, serial: int) -> dict[str, Any]:
        worker = self._kept.pop(serial)
        self._births.finish(worker)
        await self._loop.settled(worker.exited)
        return {}

    async def on_job(
        self,
        kind: str,
        content: str,
        request: str = "",
        final: str = "",
        deadline_s: float = float("inf"),
        *,
        bait: bool = True,
    ) -> dict[str, Any]:
        """One job; its descriptors are the sealed `content` and, as `bait`, a file and a folder of root's alone."""
        message: Message = json_message(request) if request else ParseVersions()
        baits = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in ((SECRET, FOLDER) if bait else ())]
        given = (sealed_memfd("job", content.encode()), *baits)
        try:
            finals = (BY_NAME[final] if final else Versions,)
            received = await self._fleet.do(kind, message, given, final=finals, deadline_s=deadline_s)
        finally:
            close_all(given)
        for _, descriptors in received:
            close_all(descriptors)
        return {
            "messages": [type(got).__name__ for got, _ in received],
            "attached": [len(more) for _, more in received],
            "problem": getattr(received[-1][0], "problem", ""),
        }

    async def on_siege(self, trips: int, honest: str, attacks: list[str], deadline_s: float = 2.0) -> dict[str, Any]:
        """Seconds from request to answer of honest parsers, one after the other, while others attack all the time."""
        under_way = [self._loop.start("attack", self._attack_on(each, deadline_s)) for each in attacks]
        seconds = []
        for _ in range(trips):
            worker = await self._fleet.start("parser")
            began = self._loop.clock.monotonic()
            given = (sealed_memfd("job", honest.encode()),)
            try:
                worker.channel.send(ParseVersions(), given)
                answer, _ = await worker.receive(deadline_s)
            finally:
                close_all(given)
                self._births.finish(worker)
            if not isinstance(answer, Versions):
                raise ValueError(f"{type(answer).__name__} came back")
            seconds.append(self._loop.clock.monotonic() - began)
        self._besieged = False
        for each in under_way:
            await self._loop.settled(each)
        self._besieged = True
        return {"seconds": seconds}

    async def _attack_on(self, content: str, deadline_s: float) -> None:
        """One attack after the other, each by a fresh worker, until the siege is over."""
        while self._besieged:
            with contextlib.suppress(AgentError, OSError):
                await self.on_job("parser", content, deadline_s=deadline_s)

    async def on_plan(self, request: dict[str, Any], text: str) -> dict[str, Any]:
        """A plan for `request`, which is PlanProvisioning as plain data; `text` is the OVF's custom data."""
        plan = await planning.plan(self._fleet, msgspec.convert(request, PlanProvisioning), text.encode())
        return {"custom_data": (plan.custom_data or b"").hex()}

    async def on_verify(self, serial: int, by_pidfd_of: int = 0) -> dict[str, Any]:
        """A verifier's judgement of a worker that was found right when it started."""
        worker, checker = self._kept[serial], await self._fleet._begin("verifier")
        pidfd = worker.pidfd
        worker.pidfd = self._kept[by_pidfd_of].pidfd if by_pidfd_of else pidfd
        try:
            await self._fleet._verify(worker, checker)
        finally:
            worker.pidfd = pidfd
            self._births.finish(checker)
        return {}

    async def on_order(self, kind: str, instance: int = 0, serial: int = 9999, given: int = 2) -> dict[str, Any]:
        """A start order of the test's own, with `given` descriptors; what the spawner answers."""
        self._loop.unwatch(self._spawner.fileno())
        with open(os.devnull, "rb") as null:  # noqa: PTH123
            send_packet(self._spawner, pack_order(Order(Op.START, serial, instance, kind)), [null.fileno()] * given)
            event = unpack_event(self._spawner.recv(EVENT_BYTES + 1))
        self._loop.watch(self._spawner.fileno(), self._births._take_event)
        return {"happened": event.what.name, "text": event.text}

    async def on_raw(self, record: str) -> dict[str, Any]:
        """Bytes to the spawner that no supervisor of ours would send."""
        self._spawner.send(bytes.fromhex(record))
        await self._loop.sleep(0.2)
        return {}


def json_message(text: str) -> Message:
    """A message as {"name": {fields}}."""
    ((name, fields),) = json.loads(text).items()
    return BY_NAME[name](**fields)


def _answer(**content: Any) -> None:
    os.write(1, json.dumps(content).encode() + b"\n")
