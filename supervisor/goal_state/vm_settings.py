# SPDX-License-Identifier: Apache-2.0
"""Owns what the HostGAPlugin's vmSettings say, and when they are asked for (hostga-plugin.md 5).

Runs in the supervisor. A VM without the plugin, or with one that is out of order, loses nothing of what the WireServer
tells: whatever goes wrong here is an answer, not an error.
"""

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

import msgspec

from ipc.errors import AgentError, BadDescriptor, HostError, HostUnreachable
from ipc.messages import Message, ParseVmSettings, VmSettings
from supervisor.clock import Clock
from supervisor.contact import UnusableDocument
from supervisor.goal_state.complaints import Complaints
from supervisor.goal_state.settings import NO_SETTINGS, SettingsBundle, taken

if TYPE_CHECKING:
    from supervisor.loop import Promise
    from supervisor.wire.plugin import PluginAnswer

# hostga-plugin.md 5.3.
LEAST_PLUGIN = (1, 0, 8, 133)
NOT_ASKED_FOR_S = 6 * 3600.0
SUMMARY_S = 3600.0
MOST_REPORTS = 3
OK, NOT_MODIFIED, NOT_FOUND = 200, 304, 404
T = TypeVar("T", bound=Message)
# given: what was said last still holds. none: the host has no vmSettings for us. unknown: it could not be asked.
Standing = Literal["given", "none", "unknown"]


class Plugin(Protocol):
    """The HostGAPlugin, as far as it is asked here: one attempt each."""

    def vm_settings(self, etag: str) -> "Coroutine[Promise[Any], None, PluginAnswer]": ...


class Parse(Protocol):
    """A document of the host's as a typed message with its descriptors (Contact.parse_with)."""

    def __call__(
        self, request: Message, name: str, document: bytes, kind: type[T]
    ) -> "Coroutine[Promise[Any], None, tuple[T, tuple[int, ...]]]": ...


class Heard(msgspec.Struct, frozen=True):
    """What the HostGAPlugin says now. `settings` are None unless `standing` is given, and `bundle` goes with them; they
    are new until `settle`, and `document` is their redacted text until then; `problem` is why it could not be asked."""

    standing: Standing
    settings: VmSettings | None = None
    etag: str = ""
    is_new: bool = False
    document: bytes = b""
    problem: str = ""
    bundle: SettingsBundle = NO_SETTINGS


class Errors(msgspec.Struct, rename="camel"):
    """What went wrong within an hour, by class, as the hourly summary tells it."""

    requests: int = 0
    errors: int = 0
    server_errors: int = 0
    client_errors: int = 0
    timeouts: int = 0
    failed_requests: int = 0

    @property
    def told(self) -> str:
        """All of it, as telemetry has it."""
        return msgspec.json.encode(self).decode()

    def note_status(self, status: int) -> None:
        """One answer that is none."""
        self.server_errors += status >= 500
        self.client_errors += 400 <= status < 500


class VmSettingsPoll:
    """Asks for them, remembers what was said, and counts what goes wrong. `errors` are those of the current hour."""

    def __init__(self, plugin: Plugin, parse: Parse, clock: Clock, say: Callable[[str, str, str], None]) -> None:
        self.errors = Errors()
        # Told of each finished hour in which anything went wrong.
        self.on_hour: Callable[[Errors], None] = lambda _: None
        # Told the ETag of a document that can't be read, and why: once for each.
        self.on_unreadable: Callable[[str, str], None] = lambda _etag, _problem: None
        self._plugin = plugin
        self._parse = parse
        self._clock = clock
        self._say = say
        self._known = Heard("unknown")
        # Its ETag, the hash of its bytes, and why.
        self._unreadable = ("", 0, "")
        self._not_before = float("-inf")
        self._hour_began = clock.monotonic()
        self._complaints = Complaints(clock, first=MOST_REPORTS, again_s=SUMMARY_S)

    @property
    def is_supported(self) -> bool:
        """Whether the HostGAPlugin has vmSettings, by its last word."""
        return self._known.standing == "given"

    @property
    def trouble(self) -> tuple[int, str]:
        """How many requests failed in a row, and why the last one did."""
        return self._complaints.in_a_row, self._complaints.text

    async def ask(self, *, forced: bool = False) -> Heard:
        """What is said now; `forced` has it said in full. Never raises HostError."""
        self._end_hour()
        if self._clock.monotonic() < self._not_before:
            return self._known
        self.errors.requests += 1
        try:
            heard = await self._ask_or_fail("" if forced else self._known.etag)
        except (AgentError, BadDescriptor) as error:
            return self._fail(str(error))
        if self._complaints.end():
            self._say("info", "host plugin", "vmSettings answer again")
        return heard

    def settle(self) -> None:
        """What was said last has been acted on: it is new no more."""
        if self._known.is_new:
            self._known = msgspec.structs.replace(self._known, is_new=False, document=b"")

    async def _ask_or_fail(self, etag: str) -> Heard:
        try:
            answer = await self._plugin.vm_settings(etag)
        except HostUnreachable as error:
            is_timeout = "within" in str(error)
            self.errors.timeouts += is_timeout
            self.errors.failed_requests += not is_timeout
            raise
        if answer.status == OK:
            return await self._read(answer)
        if answer.status == NOT_MODIFIED and self._known.standing == "given":
            return self._known
        if answer.status == NOT_FOUND:
            return self._has_none("it knows no such request (404)")
        self.errors.note_status(answer.status)
        raise HostError(f"GET /vmSettings: HTTP status {answer.status}")

    async def _read(self, answer: "PluginAnswer") -> Heard:
        if not answer.etag:
            raise HostError("GET /vmSettings: the answer has no ETag")
        if (answer.etag, hash(answer.body)) == self._unreadable[:2]:
            raise HostError(self._unreadable[2])
        try:
            settings, descriptors = await self._parse(ParseVmSettings(), "vm-settings", answer.body, VmSettings)
        except UnusableDocument as error:
            # The same bytes would be refused again: no parser is begun for them as long as they stay.
            # By its ETag alone one that was damaged on its way would never be read again.
            self._unreadable = answer.etag, hash(answer.body), str(error)
            self.on_unreadable(answer.etag, str(error))
            raise
        document, bundle = taken(descriptors)
        if _version(settings.plugin_version) < LEAST_PLUGIN:
            return self._has_none(f"it is too old ({settings.plugin_version})")
        is_new = self._known.is_new or self._known.standing != "given" or answer.etag != self._known.etag
        self._known = Heard("given", settings, answer.etag, is_new, document if is_new else b"", bundle=bundle)
        return self._known

    def _has_none(self, why: str) -> Heard:
        """The WireServer's goal states are all there is, until it is asked again."""
        self._say("info", "host plugin", f"has no vmSettings: {why}; asked again in {NOT_ASKED_FOR_S / 3600:g} h")
        self._not_before = self._clock.monotonic() + NOT_ASKED_FOR_S
        self._known = Heard("none")
        return self._known

    def _fail(self, problem: str) -> Heard:
        self.errors.errors += 1
        if self._complaints.note(problem):
            followed = "the WireServer's goal states are followed meanwhile"
            self._say("warning", "host plugin", f"{problem}; {followed}{self._complaints.again}")
        return Heard("unknown", problem=problem)

    def _end_hour(self) -> None:
        now = self._clock.monotonic()
        if now - self._hour_began >= SUMMARY_S:
            if self.errors.errors:
                self.on_hour(self.errors)
            self.errors, self._hour_began = Errors(), now


def _version(text: str) -> tuple[int, ...]:
    """A dotted version; one that is none is the oldest of all."""
    parts = text.split(".")
    return tuple(map(int, parts)) if all(part.isascii() and part.isdecimal() for part in parts) else ()
