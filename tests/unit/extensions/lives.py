# SPDX-License-Identifier: Apache-2.0
"""A handler's life played through the records, with nothing behind it: what is ordered is written down."""

from collections.abc import Callable, Mapping

from msgspec.structs import replace

from ipc.messages.extension_documents import HandlerManifest
from supervisor.extension_records import (
    AnyExtensionRecord,
    CommandEnded,
    CommandIntended,
    Extensions,
    Life,
    Run,
    UndertakingBegun,
    UndertakingEnded,
)
from supervisor.extensions.next_step import (
    CODES,
    Begin,
    Choose,
    Command,
    Drop,
    Ended,
    Finish,
    Note,
    Remove,
    Step,
    Wanted,
    next_step,
    noted,
)

HANDLER = "Publisher.Type"
PLAIN = HandlerManifest("install.sh", "enable.sh", "update.sh", "disable.sh", "uninstall.sh")
ON = Wanted("g1", "enable", "1.0.0.0", sequence_number=3)
OFF = replace(ON, purpose="uninstall", version="")


class Played:
    """`told` are the steps that were come to; commands as VERB VERSION and their extension's name. `fails` are those
    that fail, `known` what the journal has."""

    def __init__(self, manifests: Mapping[str, HandlerManifest] | None = None) -> None:
        self.known = Extensions()
        self.told: list[str] = []
        self.boot = "boot-1"
        self.fails: set[str] = set()
        self.killed_before: Callable[[AnyExtensionRecord], bool] = lambda _: False
        self._manifests = dict(manifests or {})

    @property
    def life(self) -> Life:
        return self.known.of(HANDLER)

    def manifests(self) -> Mapping[str, HandlerManifest]:
        return {version: self._manifests.get(version, PLAIN) for version in ("1.0.0.0", "1.1.0.0", "2.0.0.0", "9.0")}

    def play(self, wanted: Wanted) -> tuple[int, str]:
        """Until nothing is to be done; how it has ended."""
        done: set[str] = set()
        for _ in range(100):
            step = next_step(wanted, self.life, self.boot, self.manifests(), done)
            if isinstance(step, Ended):
                return step.end.code, step.end.message
            if isinstance(step, Choose):
                wanted = replace(wanted, version="1.0.0.0")
            else:
                self._do(step, done)
        raise AssertionError(f"it has no end: {self.told[-8:]}")

    def note(self, record: AnyExtensionRecord) -> None:
        if self.killed_before(record):
            raise KilledError
        self.known = record.on(self.known)

    def _do(self, step: Step, done: set[str]) -> None:
        if isinstance(step, Begin):
            done.clear()
            self.note(UndertakingBegun(HANDLER, step.undertaking))
        elif isinstance(step, Command):
            self._run(step)
        elif isinstance(step, Finish):
            self.note(UndertakingEnded(HANDLER, self.boot, step.code, step.message, step.failed_upgrade))
        elif isinstance(step, (Remove, Drop, Note)):
            self.told.append(step.key)
            self.note(noted(step, HANDLER, self.life))
        else:
            self.told.append(step.key)
            done.add(step.key)

    def _run(self, step: Command) -> None:
        run = step.run
        if run is None:
            number = self.known.last_number + 1
            run = Run(number, step.key, step.verb, step.version, step.extension, self.boot)
            self.note(CommandIntended(HANDLER, run))
            self.told.append(named(step))
        if run.boot != self.boot:
            self.note(CommandEnded(HANDLER, run.number, CODES[run.verb], lost=True, message="its end is not known"))
            return
        code = CODES[step.verb] if named(step) in self.fails or step.verb in self.fails else 0
        self.note(CommandEnded(HANDLER, run.number, code, str(code and 7), message="it exits with 7" if code else ""))


class KilledError(Exception):
    """The end of the process that plays."""


def named(step: Command) -> str:
    return f"{step.verb} {step.version} {step.extension}".strip()
