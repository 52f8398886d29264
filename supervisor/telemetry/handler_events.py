# SPDX-License-Identifier: Apache-2.0
"""Owns the events of what is done to handlers: commands, and downloads of packages (wire-protocol.md 11).

Runs in the supervisor, where handlers' commands are run. What it can't tell stands in nobody's way.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ipc.errors import AgentError
from ipc.messages.extension_rules import HandlerVerb
from supervisor.clock import Clock
from supervisor.extension_records import NEVER_RAN, WITHDRAWN, Run
from supervisor.telemetry.events import AgentEvent

if TYPE_CHECKING:
    from supervisor.telemetry.telemetry import Telemetry

# As whoever evaluates them knows them.
NAMES: dict[HandlerVerb, str] = {
    "install": "Install",
    "enable": "Enable",
    "update": "Update",
    "disable": "Disable",
    "uninstall": "UnInstall",
}
DOWNLOAD = "Download"


class HandlerEvents:
    """Those of all handlers. `telemetry` takes them; it is made later than they, and there is none before."""

    def __init__(self, clock: Clock) -> None:
        self.telemetry: Telemetry | None = None
        self._clock = clock
        # Of each handler why its last download came to nothing: it is tried for as long as it is wanted, and told once.
        self._failed: dict[str, str] = {}

    def command(self, handler: str, run: Run, seconds: float) -> None:
        """One has ended after so long. What was never begun is no operation, unless it should have been."""
        if run.exit_text == WITHDRAWN or (run.exit_text == NEVER_RAN and not run.code):
            return
        name = f"{handler}.{run.extension}" if run.extension else handler
        self._note(name, run.version, NAMES[run.verb], run.message, seconds, succeeded=not run.code)

    @contextmanager
    def download(self, handler: str, version: str) -> Iterator[None]:
        """A package is fetched, verified and unpacked meanwhile."""
        began = self._clock.monotonic()
        with self.attempt(handler, version):
            yield
        self._failed.pop(handler, None)
        self._note(handler, version, DOWNLOAD, "", self._clock.monotonic() - began, succeeded=True)

    @contextmanager
    def attempt(self, handler: str, version: str) -> Iterator[None]:
        """Something is done that a download takes, and told of if it fails."""
        began = self._clock.monotonic()
        try:
            yield
        except (AgentError, OSError) as error:
            why = str(error)
            if self._failed.get(handler) != why:
                self._failed[handler] = why
                seconds = self._clock.monotonic() - began
                self._note(handler, version, DOWNLOAD, why, seconds, succeeded=False)
            raise

    def _note(  # noqa: PLR0913 - an event's columns
        self, name: str, version: str, operation: str, message: str, seconds: float, *, succeeded: bool
    ) -> None:
        if self.telemetry is not None:
            source = self.telemetry.source("extensions")
            event = AgentEvent(source, operation, succeeded, message, round(seconds * 1000), name, version)
            self.telemetry.note(event)
