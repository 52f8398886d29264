# SPDX-License-Identifier: Apache-2.0
"""Owns the emulated WireServer on its address: strict as the real one, recording all, misbehaving on demand.

Runs in a test's process, or alone in a network namespace: `python -m tests.fabric.wireserver --help`. It must never
outlive its owner's `stop`.
"""

import socket
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from supervisor.clock import Clock, SystemClock
from tests.fabric.acceptor import Acceptor
from tests.fabric.documents import GoalState, Health, RoleProperties, read_role_properties
from tests.fabric.faults import Fault, Script
from tests.fabric.recording import Connection, Record, Recording
from tests.fabric.wire_rules import Host, NotEmulated, Offer
from tests.fabric.wire_session import Desk, Session

REFUSE = "any:refuse"


@dataclass(frozen=True)
class Options:
    """What the host offers, where its records go (one JSON line each), how long a request may take to arrive, and the
    addresses where the real host has services that this one lacks: what comes there is refused as not emulated."""

    offer: Offer = field(default_factory=Offer)
    record: Path | None = None
    patience_s: float = 10.0
    not_emulated: tuple[tuple[str, int], ...] = ()


class WireServer:
    """The emulated WireServer. Start it once, by `start` or as a context; its state stays readable after `stop`."""

    def __init__(
        self, address: tuple[str, int] = ("127.0.0.1", 0), clock: Clock | None = None, options: Options | None = None
    ) -> None:
        self.address = address
        self._options = options or Options()
        self.recording = Recording(clock or SystemClock(), self._options.record)
        self.faults = Script()
        self._acceptor = Acceptor("wireserver", self._listen, self._serve)
        self._others: list[Acceptor] = []
        self._reserved: socket.socket | None = None
        self._reopening: threading.Timer | None = None
        self._host: Host | None = None
        self._started: Desk | None = None

    # --- life

    def start(self) -> None:
        """Listen; afterwards `address` has the real port. Raises OSError, RuntimeError when started before."""
        if self._started is not None:
            raise RuntimeError("a WireServer starts once")
        self._reserved = self._bind()  # keeps the port ours while the listener is closed
        self.address = self._reserved.getsockname()[:2]
        self._host = Host(self._options.offer, _written(self.address))
        self._started = Desk(self.recording, self._host, self.faults, self._acceptor.stopping, self._options.patience_s)
        self.recording.open()
        self._acceptor.open()
        for address in self._options.not_emulated:
            self._refuse_at(address)

    def stop(self) -> None:
        """End every connection and thread, within a second; harmless when done before."""
        self._cancel_reopening()
        for acceptor in (self._acceptor, *self._others):
            acceptor.stop()
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

    def publish(self, *, new_container: bool = True, instance_id: str = "", incomplete: int = 0) -> GoalState:
        """Publish the next goal state; its first `incomplete` answers lack the role instance."""
        with self.recording.changed:
            goal_state = self._state.goal_state.successor(new_container=new_container, instance_id=instance_id)
            self._state.publish(goal_state, incomplete)
            self.recording.changed.notify_all()
            return goal_state

    def fault(self, text: str) -> None:
        """Add a fault as tests/fabric/faults.py writes it. Raises ValueError.

        `any:refuse[=SECONDS]` is one more: nobody listens until then, or until `clear_faults`."""
        name, _, seconds = text.partition("=")
        if name != REFUSE:
            self.faults.add(Fault.parse(text))
            return
        pause_s = float(seconds) if seconds else None
        self._cancel_reopening()
        self._acceptor.close()
        if pause_s is not None:
            self._reopening = threading.Timer(pause_s, self._acceptor.open)
            self._reopening.start()

    def clear_faults(self) -> None:
        """Forget all faults and listen again."""
        self.faults.clear()
        self._cancel_reopening()
        self._acceptor.open()

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
                "address": _written(self.address),
                "goal_state": asdict(self.goal_state),
                "health": None if health is None else asdict(health),
                "health_reports": len(self.health_reports),
                "requests": len(self.records),
                "refusals": [f"{record.method} {record.target}: {record.why}" for record in self.refusals],
                "connections": len(self.connections),
                "open": sum(connection.ended is None for connection in self.connections),
                "half_closed": sum(connection.half_closed for connection in self.connections),
                "faults": [str(fault) for fault in self.faults.pending],
            }

    # --- its connections

    @property
    def _state(self) -> Host:
        if self._host is None:
            raise RuntimeError("the WireServer was never started")
        return self._host

    @property
    def _desk(self) -> Desk:
        if self._started is None:
            raise RuntimeError("the WireServer was never started")
        return self._started

    def _refuse_at(self, address: tuple[str, int]) -> None:
        """Listen at `address` as well, to refuse aloud whatever comes there. Faults are not for it."""

        def serve(client: socket.socket) -> None:
            Session(desk, client).serve()

        acceptor = Acceptor(_written(address), lambda: socket.create_server(address), serve)
        judge = NotEmulated(_written(address))
        desk = Desk(self.recording, judge, Script(), acceptor.stopping, self._options.patience_s)
        self._others.append(acceptor)
        acceptor.open()

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

    def _cancel_reopening(self) -> None:
        reopening, self._reopening = self._reopening, None
        if reopening is not None:
            reopening.cancel()
            reopening.join()

    def _serve(self, client: socket.socket) -> None:
        Session(self._desk, client).serve()


def _written(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"


if __name__ == "__main__":
    from tests.fabric.wire_control import serve

    raise SystemExit(serve())
