# SPDX-License-Identifier: Apache-2.0
"""Owns one client's connection to the emulated WireServer: read a request, have it judged, record it, answer it.

Runs in test processes, in the thread of the connection. It never answers before what it saw is recorded.
"""

import contextlib
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import Protocol

from tests.fabric.answers import Judgement
from tests.fabric.faults import Fault, Script
from tests.fabric.misbehaviour import Stage, encode
from tests.fabric.recording import Record, Recording, Verdict
from tests.fabric.wire_book import Refusal
from tests.fabric.wire_request import WITH_BODY, Incomplete, Reader, Request, Terms, read_request

MOST_RECORDED_BYTES = 1024 * 1024


class Judge(Protocol):
    """Who decides on the requests to one address."""

    def judge(self, request: Request) -> Judgement: ...

    def route(self, request: Request) -> str: ...


@dataclass(frozen=True)
class Desk:
    """What all sessions of one host share. A request must be whole `patience_s` after its first byte."""

    recording: Recording
    judge: Judge
    faults: Script
    stopping: threading.Event
    patience_s: float
    terms: Terms = field(default_factory=Terms)

    def decide(self, number: int, request: Request) -> tuple[Judgement, Fault | None]:
        """Judge, choose the fault, record, act: one step for every other thread."""
        with self.recording.changed:
            judgement = self.judge.judge(request)
            fault = None if request.refusal else self.faults.take(self.judge.route(request))
            stage = Stage.WHOLE if fault is None else fault.stage
            verdict: Verdict = "accepted"
            if judgement.why:
                verdict = "refused"
            elif stage is Stage.INSTEAD:
                verdict = "faulted"
            elif stage is Stage.WHOLE or request.method in WITH_BODY:
                judgement.effect()  # who gets half a goal state has not fetched it; a report counts, heard or not
            status = judgement.answer.status if fault is None else fault.status(judgement.answer)
            decided = (verdict, judgement.why, judgement.rule)
            self.record(number, request, decided, status, "" if fault is None else str(fault))
            return judgement, fault

    def record(
        self, number: int, request: Request, decided: tuple[Verdict, str, str], status: int | None, fault: str
    ) -> None:
        """Keep what came on connection `number`, what was decided, why, and by which rule."""
        self.recording.add(
            Record(
                connection=number,
                route=self.judge.route(request),
                method=request.method,
                target=request.target,
                version=request.version,
                headers=request.headers,
                body=request.body[:MOST_RECORDED_BYTES].decode(errors="backslashreplace"),
                status=status,
                verdict=decided[0],
                why=decided[1],
                fault=fault,
                rule=decided[2],
                passed=request.trial.passed,
            )
        )


class Session:
    """One connection. It is also the `Wire` that faults play on."""

    def __init__(self, desk: Desk, client: socket.socket) -> None:
        self._desk = desk
        self._client = client
        self._was_reset = False
        peer = client.getpeername()
        self._caller = str(peer[0])
        self._number = desk.recording.connected(f"{peer[0]}:{peer[1]}")

    def serve(self) -> None:
        """Answer until either side ends the connection. Raises OSError when it broke."""
        how = "closed"
        try:
            reader = Reader(self._client, self._desk.patience_s)
            while self._exchange(reader):
                pass
            if self._was_reset:
                how = "reset by the host"
            else:
                self._part()
        except OSError as error:
            how = error.strerror or str(error)
            raise
        finally:
            self._desk.recording.ended(self._number, "stopped" if self._desk.stopping.is_set() else how)

    def send(self, data: bytes) -> None:
        self._client.sendall(data)

    def pause(self, seconds: float) -> None:
        if self._desk.stopping.wait(seconds):
            raise ConnectionAbortedError("the host is being stopped")

    def reset(self) -> None:
        """Have the close that follows send a reset instead of the end of the stream."""
        self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._was_reset = True

    def until_client_closes(self, seconds: float | None) -> None:
        """Ignore what still comes until the client's end of file, or for `seconds` of quiet."""
        self._client.settimeout(seconds)
        with contextlib.suppress(TimeoutError):
            while self._client.recv(65536):
                pass
            self._client_closed()
        self._client.settimeout(None)

    def _exchange(self, reader: Reader) -> bool:
        """One request and its answer; True when the connection goes on."""
        if not reader.begin():
            self._client_closed()
            return False
        request = Request(caller=self._caller)
        try:
            read_request(reader, self._client.getsockname()[:2], request, self._desk.terms)
        except Incomplete as incomplete:
            if not self._desk.stopping.is_set():
                self._desk.record(self._number, request, ("broken", f"broken: {incomplete}", ""), None, "")
            return False
        except Refusal as refusal:
            request.refusal = refusal
        close = request.wants_close or request.refusal is not None
        judgement, fault = self._desk.decide(self._number, request)
        self._client.settimeout(None)
        if fault is not None:
            return fault.play(self, judgement.answer, close=close)
        self.send(encode(judgement.answer, close=close))
        return not close

    def _part(self) -> None:
        """Say that nothing more comes, then wait for the client to say the same: it must not leak its end."""
        with contextlib.suppress(OSError):
            self._client.shutdown(socket.SHUT_WR)
        self._desk.recording.server_closed(self._number)
        self.until_client_closes(None)

    def _client_closed(self) -> None:
        if not self._desk.stopping.is_set():  # `stop` makes every read end
            self._desk.recording.client_closed(self._number)
