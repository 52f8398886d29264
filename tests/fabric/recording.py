# SPDX-License-Identifier: Apache-2.0
"""Owns what the emulated host saw: one record a request, one entry a connection, and waiting for either.

Runs in test processes. Every line is on disk before the answer to its request leaves the host.
"""

import json
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Literal

from supervisor.clock import Clock

Verdict = Literal["accepted", "refused", "broken", "faulted"]


@dataclass(frozen=True)
class Record:
    """One request. `verdict`:

    accepted  correct, and the host acted on it (a fault may still have spoiled the answer: see `fault`)
    refused   wrong: `why` begins with "refused: "
    broken    no whole request came: `why` begins with "broken: "
    faulted   correct, but an injected fault came instead of acting on it

    `status` is the status that went out, None when none did. `rule` is the one that refused it (wire_book.RULES), empty
    when none did; `passed` are those that it was held against and met. The last five are stamped when it is kept:
    `time` is wall seconds, `monotonic` those of the machine's suspend-aware clock, `nth` the request's number on its
    connection.
    """

    connection: int
    route: str
    method: str
    target: str
    version: str
    headers: tuple[tuple[str, str], ...]
    body: str
    status: int | None
    verdict: Verdict
    why: str
    fault: str
    rule: str = ""
    passed: tuple[str, ...] = ()
    number: int = 0
    time: float = 0.0
    monotonic: float = 0.0
    nth: int = 0
    peer: str = ""

    def header(self, name: str) -> str | None:
        """The first header called `name`, in any case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


@dataclass(frozen=True)
class Connection:
    """One connection as it is now. `opened`, `client_closed`, `server_closed`, `ended` are monotonic seconds or None.

    `how` it ended is closed, reset by the host, stopped, or the kernel's error. Half-closed: one side has sent its
    end, the other has not, and the socket is still there."""

    number: int
    peer: str
    opened: float
    requests: int = 0
    client_closed: float | None = None
    server_closed: float | None = None
    ended: float | None = None
    how: str = ""

    @property
    def half_closed(self) -> bool:
        return self.ended is None and (self.client_closed is None) != (self.server_closed is None)


class Recording:
    """All records and connections, safe to use from every thread; `changed` guards the host's other state, too."""

    def __init__(self, clock: Clock, path: Path | None = None) -> None:
        self.clock = clock
        self.changed = threading.Condition(threading.RLock())
        self._records: list[Record] = []
        self._connections: dict[int, Connection] = {}
        self._path = path
        self._file: IO[str] | None = None
        self._open = False

    @property
    def records(self) -> tuple[Record, ...]:
        with self.changed:
            return tuple(self._records)

    @property
    def connections(self) -> tuple[Connection, ...]:
        with self.changed:
            return tuple(self._connections.values())

    def open(self) -> None:
        """Start to record. Raises OSError when the file can't be opened."""
        with self.changed:
            self._open = True
            if self._path is not None:
                self._file = self._path.open("a", encoding="utf-8")

    def close(self) -> None:
        """End every wait and close the file; what was recorded stays readable."""
        with self.changed:
            self._open = False
            if self._file is not None:
                self._file.close()
                self._file = None
            self.changed.notify_all()

    def connected(self, peer: str) -> int:
        """Note a new connection; returns its number."""
        with self.changed:
            number = len(self._connections) + 1
            self._connections[number] = Connection(number, peer, self.clock.monotonic())
            self.changed.notify_all()
            return number

    def client_closed(self, number: int) -> None:
        self._update(number, client_closed=self.clock.monotonic())

    def server_closed(self, number: int) -> None:
        self._update(number, server_closed=self.clock.monotonic())

    def ended(self, number: int, how: str) -> None:
        """The connection's socket is about to go; `how`: closed, reset by the host, stopped, or the kernel's error."""
        self._update(number, ended=self.clock.monotonic(), how=how)

    def add(self, draft: Record) -> Record:
        """Number `draft`, stamp it, keep it and write its line."""
        with self.changed:
            connection = self._connections[draft.connection]
            nth = connection.requests + 1
            self._connections[draft.connection] = replace(connection, requests=nth)
            record = replace(
                draft,
                number=len(self._records) + 1,
                time=self.clock.wall(),
                monotonic=self.clock.monotonic(),
                nth=nth,
                peer=connection.peer,
            )
            self._records.append(record)
            if self._file is not None:
                self._file.write(json.dumps(asdict(record)) + "\n")
                self._file.flush()
            self.changed.notify_all()
            return record

    def wait_for(self, predicate: Callable[[], bool], timeout_s: float) -> None:
        """Return as soon as `predicate` holds; it is tried after every change.

        Raises TimeoutError, with the last records in its text, after `timeout_s` or when the host is stopped."""
        with self.changed:
            met = self.changed.wait_for(lambda: predicate() or not self._open, timeout_s)
            if met and predicate():
                return
            lines = [
                f"  {record.method} {record.target}: {record.status} {record.verdict} {record.why} {record.fault}"
                for record in self._records[-8:]
            ]
            state = f"within {timeout_s:g} s" if self._open else "before the host was stopped"
            raise TimeoutError("\n".join([f"not {state}; the last of {len(self._records)} requests:", *lines]))

    def _update(self, number: int, **changes: float | str) -> None:
        with self.changed:
            current = self._connections[number]
            self._connections[number] = replace(current, **changes)  # type: ignore[arg-type]
            self.changed.notify_all()
