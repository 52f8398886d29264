# SPDX-License-Identifier: Apache-2.0
"""Owns the emulated WireServer on its address: strict as the real one, recording all, misbehaving on demand.

Runs in a test's process, or alone in a network namespace: `python -m tests.fabric.wireserver --help`. It must never
outlive its owner's `stop`, and never answer before what it saw is recorded.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from supervisor.clock import Clock, SystemClock
from tests.fabric.acceptor import Acceptor
from tests.fabric.documents import GoalState, Health, RoleProperties
from tests.fabric.faults import Fault, Script
from tests.fabric.misbehaviour import Stage, encode
from tests.fabric.recording import Connection, Record, Recording, Verdict
from tests.fabric.wire_request import Incomplete, Misformed, Reader, Request, read_request
from tests.fabric.wire_rules import Host, Judgement, Offer, route

REFUSE = "any:refuse"


@dataclass(frozen=True)
class Options:
    """What the host offers, where its records go (one JSON line each), and how long a request may take to arrive."""

    offer: Offer = Offer()
    record: Path | None = None
    patience_s: float = 10.0


class WireServer:
    """The emulated WireServer. Start it once, by `start` or as a context; its state stays readable after `stop`."""

    def __init__(
        self, address: tuple[str, int] = ("127.0.0.1", 0), clock: Clock | None = None, options: Options = Options()
    ) -> None:
        self.address = address
        self.recording = Recording(clock or SystemClock(), options.record)
        self.faults = Script()
        self._options = options
        self._acceptor = Acceptor("wireserver", self._listen, self._serve)
        self._reserved: socket.socket | None = None
        self._reopening: threading.Timer | None = None
        self._host: Host | None = None

    # --- life

    def start(self) -> None:
        """Listen; afterwards `address` has the real port. Raises OSError, RuntimeError when started before."""
        if self._host is not None:
            raise RuntimeError("a WireServer starts once")
        self._reserved = self._bind()  # keeps the port ours while the listener is closed
        self.address = self._reserved.getsockname()[:2]
        self._host = Host(self._options.offer, f"{self.address[0]}:{self.address[1]}")
        self.recording.open()
        self._acceptor.open()

    def stop(self) -> None:
        """End every connection and thread, within a second; harmless when done before."""
        self._cancel_reopening()
        self._acceptor.stop()
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
            return goal_state

    def fault(self, text: str) -> None:
        """Add a fault (tests/fabric/faults.py), or `any:refuse[=SECONDS]`: no one listens until then, or `clear_faults`.

        Raises ValueError."""
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
            return tuple(self._state.role_properties)

    @property
    def refusals(self) -> tuple[Record, ...]:
        """The requests that were wrong or not whole: empty in a green run, whatever faults were injected."""
        return tuple(record for record in self.records if record.verdict in {"refused", "broken"})

    def requests(self, to: str) -> tuple[Record, ...]:
        """The records of one route: versions, goalstate, health, roleproperties, other."""
        return tuple(record for record in self.records if record.route == to)

    def wait_for(self, predicate: Callable[["WireServer"], bool], timeout_s: float = 10.0) -> None:
        """Return as soon as `predicate` holds. Raises TimeoutError, telling the last requests."""
        self.recording.wait_for(lambda: predicate(self), timeout_s)

    def state(self) -> dict[str, Any]:
        """All of that in short, for JSON."""
        with self.recording.changed:
            health = self.health
            return {
                "address": f"{self.address[0]}:{self.address[1]}",
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
        peer = client.getpeername()
        number = self.recording.connected(f"{peer[0]}:{peer[1]}")
        wire = _SocketWire(client, self._acceptor.stopping)
        how = "closed"
        try:
            reader = Reader(client, self._options.patience_s)
            while self._exchange(reader, wire, number):
                pass
            if wire.was_reset:
                how = "reset"
            else:
                self._part(wire, number)
        except OSError as error:
            how = error.strerror or str(error)
            raise
        finally:
            self.recording.ended(number, "stopped" if self._acceptor.stopping.is_set() else how)

    def _exchange(self, reader: Reader, wire: "_SocketWire", number: int) -> bool:
        """One request and its answer; True when the connection goes on."""
        if not reader.begin():
            self.recording.client_closed(number)
            return False
        request = Request()
        close = False
        try:
            read_request(reader, wire.client.getsockname()[:2], request)
        except Incomplete as incomplete:
            if not self._acceptor.stopping.is_set():
                self._record(number, request, ("broken", f"broken: {incomplete}"), None, "")
            return False
        except Misformed as misformed:
            request.problem = str(misformed)
        close = request.wants_close or bool(request.problem)
        judgement, fault = self._decide(number, request)
        wire.client.settimeout(None)
        if fault is not None:
            return fault.play(wire, judgement.answer, close=close)
        wire.send(encode(judgement.answer, close=close))
        return not close

    def _decide(self, number: int, request: Request) -> tuple[Judgement, Fault | None]:
        """Judge, choose the fault, record, act: one step for every other thread."""
        with self.recording.changed:
            judgement = self._state.judge(request)
            fault = None if request.problem else self.faults.take(route(request))
            stage = Stage.WHOLE if fault is None else fault.stage
            if judgement.why:
                verdict: Verdict = "refused"
            elif stage is Stage.INSTEAD:
                verdict = "faulted"
            else:
                verdict = "accepted"
                if stage is Stage.WHOLE or request.method == "POST":
                    judgement.effect()  # who gets half a goal state has not fetched it; a report counts, heard or not
            status = judgement.answer.status if fault is None else fault.status(judgement.answer)
            self._record(number, request, (verdict, judgement.why), status, "" if fault is None else str(fault))
            return judgement, fault

    def _record(
        self, number: int, request: Request, verdict: tuple[Verdict, str], status: int | None, fault: str
    ) -> None:
        self.recording.add(
            Record(
                connection=number,
                route=route(request),
                method=request.method,
                target=request.target,
                version=request.version,
                headers=request.headers,
                body=request.body.decode(errors="backslashreplace"),
                status=status,
                verdict=verdict[0],
                why=verdict[1],
                fault=fault,
            )
        )

    def _part(self, wire: "_SocketWire", number: int) -> None:
        """Say that nothing more comes, then wait for the client to say the same: it must not leak its end."""
        with contextlib.suppress(OSError):
            wire.client.shutdown(socket.SHUT_WR)
        self.recording.server_closed(number)
        wire.until_client_closes(None)
        self.recording.client_closed(number)


class _SocketWire:
    """What a fault may do with one client's socket."""

    def __init__(self, client: socket.socket, stopping: threading.Event) -> None:
        self.client = client
        self.was_reset = False
        self._stopping = stopping

    def send(self, data: bytes) -> None:
        self.client.sendall(data)

    def pause(self, seconds: float) -> None:
        if self._stopping.wait(seconds):
            raise ConnectionAbortedError("the host is being stopped")

    def reset(self) -> None:
        self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.was_reset = True

    def until_client_closes(self, seconds: float | None) -> None:
        """Ignore what still comes until the client's end of file, or for `seconds` of quiet."""
        self.client.settimeout(seconds)
        with contextlib.suppress(TimeoutError):
            while self.client.recv(65536):
                pass
        self.client.settimeout(None)


if __name__ == "__main__":
    from tests.fabric.wire_control import serve

    raise SystemExit(serve())
