# SPDX-License-Identifier: Apache-2.0
"""Owns the emulated WireServer on its address: strict as the real one, recording all, misbehaving on demand.

Runs in a test's process, or alone in a network namespace: `python -m tests.fabric.wireserver --help`. It must never
outlive its owner's `stop`.
"""

import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from supervisor.clock import Clock, SystemClock
from tests.fabric.channel_control import ChannelControl
from tests.fabric.documents import GoalState, Health, RoleProperties, read_role_properties
from tests.fabric.doors import Door, Entrance, Service, written
from tests.fabric.faults import Fault, Script
from tests.fabric.goal_state_control import GoalStateControl
from tests.fabric.neighbours import Neighbours, Places
from tests.fabric.recording import Connection, Record, Recording
from tests.fabric.wire_rules import Host, NotEmulated, Offer
from tests.fabric.wire_session import Desk, Session

ANY, REFUSE = "any", "refuse"


@dataclass(frozen=True)
class Options:
    """What the host offers, where its records go (one JSON line each), how long a request may take to arrive, the
    addresses where the real host has services that this one lacks: what comes there is refused as not emulated; and
    where it has others (neighbours.py)."""

    offer: Offer = field(default_factory=Offer)
    record: Path | None = None
    patience_s: float = 10.0
    not_emulated: tuple[tuple[str, int], ...] = ()
    neighbours: Places = field(default_factory=Places)


class WireServer(ChannelControl, GoalStateControl):
    """The emulated WireServer. Start it once, by `start` or as a context; its state stays readable after `stop`."""

    def __init__(
        self, address: tuple[str, int] = ("127.0.0.1", 0), clock: Clock | None = None, options: Options | None = None
    ) -> None:
        self.address = address
        self._options = options or Options()
        self.recording = Recording(clock or SystemClock(), self._options.record)
        self.faults = Script()
        self._around: Neighbours | None = None
        self._main = Door("wireserver", self._listen, self._serve)
        self._doors: dict[str, Entrance] = {ANY: self._main}
        self._reserved: socket.socket | None = None
        self._host: Host | None = None
        self._started: Desk | None = None

    # --- life

    def start(self) -> None:
        """Listen; afterwards `address` has the real port. Raises OSError, RuntimeError when started before."""
        if self._started is not None:
            raise RuntimeError("a WireServer starts once")
        self._reserved = self._bind()  # keeps the port ours while the listener is closed
        self.address = self._reserved.getsockname()[:2]
        self._host = Host(self._options.offer, written(self.address), self.recording.clock)
        stopping, patience_s = self._main.stopping, self._options.patience_s
        self._started = Desk(self.recording, self._host, self.faults, stopping, patience_s)
        for address in self._options.not_emulated:
            service = Service(address, NotEmulated(written(address)), Script())  # faults are not for it
            self._doors[written(address)] = Door.of(service, self.recording, patience_s)
        places = self._options.neighbours
        self._around = Neighbours(places, self._host, self.faults, self.recording, patience_s)
        self._doors |= self._around.doors
        self.recording.open()
        for door in self._doors.values():
            door.open()

    def stop(self) -> None:
        """End every connection and thread, within a second; harmless when done before."""
        for door in self._doors.values():
            door.stop()
        self.recording.close()
        if self._reserved is not None:
            self._reserved.close()

    def __enter__(self) -> "WireServer":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- what it does

    def fault(self, text: str) -> None:
        """Add a fault as tests/fabric/faults.py writes it. Raises ValueError.

        `WHERE:refuse[=SECONDS]` is one more: nobody listens until then, or until `clear_faults`. WHERE is any (the
        WireServer's own address), or a neighbour: plugin, storage, metadata, proxy."""
        name, _, seconds = text.partition("=")
        where, _, kind = name.partition(":")
        if kind != REFUSE:
            self.faults.add(Fault.parse(text))
        elif where in self._doors:
            self._doors[where].shut(float(seconds) if seconds else None)
        else:
            raise ValueError(f"{where!r} is none of {', '.join(self._doors)}")

    def clear_faults(self) -> None:
        """Forget all faults and listen again."""
        self.faults.clear()
        for door in self._doors.values():
            door.open()

    # --- what it saw

    @property
    def goal_state(self) -> GoalState:
        return self._state.goal_state

    @property
    def records(self) -> tuple[Record, ...]:
        return self.recording.records

    @property
    def connections(self) -> tuple[Connection, ...]:
        return self.recording.connections

    @property
    def health(self) -> Health | None:
        """The last health report that the host accepted."""
        with self.recording.changed:
            return self._state.health_reports[-1] if self._state.health_reports else None

    @property
    def health_reports(self) -> tuple[Health, ...]:
        with self.recording.changed:
            return tuple(self._state.health_reports)

    @property
    def role_properties(self) -> tuple[RoleProperties, ...]:
        with self.recording.changed:
            return tuple(map(read_role_properties, self._state.role_properties))

    @property
    def refusals(self) -> tuple[Record, ...]:
        """The requests that were wrong or not whole: empty in a green run, whatever faults were injected."""
        return tuple(record for record in self.records if record.verdict in {"refused", "broken"})

    def requests(self, to: str) -> tuple[Record, ...]:
        """The records of one route: a key of wire_rules.RESOURCES, or other."""
        return tuple(record for record in self.records if record.route == to)

    def wait_for(self, predicate: Callable[["WireServer"], bool], timeout_s: float = 10.0) -> None:
        """Return as soon as `predicate` holds. Raises TimeoutError, telling the last requests."""
        self.recording.wait_for(lambda: predicate(self), timeout_s)

    def state(self) -> dict[str, Any]:
        """All of that in short, for JSON."""
        with self.recording.changed:
            health = self.health
            return {
                "address": written(self.address),
                "goal_state": {**asdict(self.goal_state), "plan": msgspec.to_builtins(self.goal_state.plan)},
                "thumbprints": list(self.tenancy.thumbprints),
                "events": len(self.events),
                "observations": len(self.observations),
                "health": None if health is None else asdict(health),
                "health_reports": len(self.health_reports),
                "requests": len(self.records),
                "refusals": [f"{record.method} {record.target}: {record.why}" for record in self.refusals],
                "connections": len(self.connections),
                "open": sum(connection.ended is None for connection in self.connections),
                "half_closed": sum(connection.half_closed for connection in self.connections),
                "statuses": len(self.statuses),
                "etag": self._neighbours.plugin.etag,
                "channels": {name: asdict(channel) for name, channel in self._state.channels.items()},
                "faults": [str(fault) for fault in self.faults.pending],
            }

    # --- its connections

    @property
    def _state(self) -> Host:
        if self._host is None:
            raise RuntimeError("the WireServer was never started")
        return self._host

    @property
    def _neighbours(self) -> Neighbours:
        if self._around is None:
            raise RuntimeError("the WireServer was never started")
        return self._around

    @property
    def _desk(self) -> Desk:
        if self._started is None:
            raise RuntimeError("the WireServer was never started")
        return self._started

    def _bind(self) -> socket.socket:
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bound.bind(self.address)
        except OSError:
            bound.close()
            raise
        return bound

    def _listen(self) -> socket.socket:
        listener = self._bind()
        listener.listen(128)
        return listener

    def _serve(self, client: socket.socket) -> None:
        Session(self._desk, client).serve()


if __name__ == "__main__":
    from tests.fabric.wire_control import serve

    raise SystemExit(serve())
