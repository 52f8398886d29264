# SPDX-License-Identifier: Apache-2.0
"""Owns the script of the faults that the emulated host injects: how one is written, and which request it meets.

Runs in test processes. It never decides whether a request is right.

One fault is written WHERE:NAME[=ARGUMENT][*COUNT][+SKIP]. WHERE is any, other or the name of a
route (a key of wire_rules.RESOURCES, a value of host_plugin.ROUTES, and those of storage.py and metadata.py); NAME
is a key of `misbehaviour.KINDS`. It meets COUNT requests there (all, without it) after letting SKIP pass.
"""

import re
import threading
from dataclasses import dataclass

from tests.fabric.answers import Answer
from tests.fabric.host_plugin import ROUTES as PLUGIN_ROUTES
from tests.fabric.metadata import ROUTE as METADATA_ROUTE
from tests.fabric.misbehaviour import KINDS, Stage, Wire
from tests.fabric.storage import ROUTES as STORAGE_ROUTES
from tests.fabric.wire_rules import RESOURCES

WHERES = ("any", *RESOURCES, *PLUGIN_ROUTES.values(), *STORAGE_ROUTES, METADATA_ROUTE, "other")
SPEC = re.compile(r"([a-z]+):([a-z-]+)(?:=([^*+]*))?(?:\*(\d+))?(?:\+(\d+))?")


@dataclass(frozen=True)
class Fault:
    """One line of the script. `count` None: for ever."""

    where: str
    name: str
    argument: str = ""
    count: int | None = None
    skip: int = 0

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """The fault written as `text`. Raises ValueError."""
        parts = SPEC.fullmatch(text)
        if parts is None:
            raise ValueError(f"{text!r} is not WHERE:NAME[=ARGUMENT][*COUNT][+SKIP]")
        where, name, argument, count, skip = parts.groups()
        if where not in WHERES:
            raise ValueError(f"{where!r} is none of {', '.join(WHERES)}")
        if name not in KINDS:
            raise ValueError(f"{name!r} is none of {', '.join(KINDS)}")
        kind = KINDS[name]
        chosen = kind.default if argument is None else argument
        if not re.fullmatch(kind.form, chosen):
            raise ValueError(f"{name}={chosen} does not match {kind.form}")
        return cls(where, name, chosen, None if count is None else int(count), int(skip or 0))

    def __str__(self) -> str:
        argument = f"={self.argument}" if self.argument else ""
        count = "" if self.count is None else f"*{self.count}"
        return f"{self.where}:{self.name}{argument}{count}{f'+{self.skip}' if self.skip else ''}"

    @property
    def stage(self) -> Stage:
        return KINDS[self.name].stage

    def status(self, answer: Answer) -> int | None:
        """The status that will go out, None when no HTTP status will."""
        status = KINDS[self.name].status
        return status(self.argument) if status is not None else answer.status

    def play(self, wire: Wire, answer: Answer, *, close: bool) -> bool:
        """Answer as this fault does; True when the connection may be used again."""
        kept = KINDS[self.name].play(wire, answer, self.argument, close)
        return kept and not close


@dataclass(eq=False)
class _Entry:
    fault: Fault
    met: int = 0


class Script:
    """The faults still to come; every thread may ask and add. A request is met by the first fault that wants it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[_Entry] = []

    @property
    def pending(self) -> tuple[Fault, ...]:
        with self._lock:
            return tuple(entry.fault for entry in self._entries)

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._entries.append(_Entry(fault))

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()

    def take(self, route: str) -> Fault | None:
        """The fault that meets this request to `route`, if any."""
        with self._lock:
            for entry in self._entries:
                fault = entry.fault
                if fault.where not in {"any", route}:
                    continue
                entry.met += 1
                if entry.met <= fault.skip:
                    continue
                if fault.count is not None and entry.met >= fault.skip + fault.count:
                    self._entries.remove(entry)
                return fault
            return None
