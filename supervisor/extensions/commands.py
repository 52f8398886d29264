# SPDX-License-Identifier: Apache-2.0
"""Owns the commands of vendors' handlers: each started once, waited for whoever of us was killed meanwhile, and read.

Runs in the supervisor. What runs is a unit of systemd's; all that is known of it stands in the folder of its number. It
must never start what that folder says was started, and no private key ever comes into this process.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import msgspec

from ipc.descriptors import close_all
from ipc.digest import sha256_hex
from ipc.errors import CommitError, StateError
from ipc.messages import (
    AskCommand,
    CommandStanding,
    CommitFailed,
    Committed,
    Containment,
    EndCommand,
    HandlerLimits,
    Message,
    Outbound,
    ServiceLimits,
    StartCommand,
)
from policy.capability import NAMES
from policy.extensions import slice_of
from supervisor.extensions.order_folders import OrderFolders
from supervisor.fleet import Fleet
from supervisor.jail import handler_order
from supervisor.jail.handler_order import HandlerOrder, HandlerResult, Verb
from supervisor.layout import Layout
from supervisor.loop import READ, Loop, TimedOut
from supervisor.prepared import Errand

KIND = "handler-start"
SYSTEMD = "/run/systemd/system"
# What the host is told of a command that failed, or ran too long (extensions.md 8).
CODES: dict[Verb, int] = {"install": 1007, "update": 1008, "enable": 1009, "disable": 1010, "uninstall": 1000}
TIMED_OUT = 1011
# The warden's time to end a command whose time is over, then systemd's to end both.
MARGIN_S = 120.0
MOST_KEY_BYTES = 64 * 1024
FIRST_UID = 0x70000000
Say = Callable[[str, str, str], None]


class Order(msgspec.Struct, frozen=True):
    """A command to be run once. `line` is for the shell; `environment` is added to a bare one; `base` its working
    folder; `folders` the names in Lib.Dir that are the handler's own; `thumbprint` that of the key pair that its
    settings name, or empty; `without` the capabilities that it does not get; `network`: a contained one
    has the machine's; `outbound`: as much of it as that names; `services` get limits before it runs."""

    number: int
    handler: str
    version: str
    extension: str
    sequence_number: int
    verb: Verb
    line: str
    timeout_s: int
    environment: tuple[tuple[str, str], ...]
    base: str
    folders: tuple[str, ...]
    thumbprint: str = ""
    handler_class: str = "compat"
    limits: HandlerLimits = HandlerLimits()
    without: tuple[str, ...] = ()
    network: bool = True
    outbound: tuple[Outbound, ...] | None = None
    services: tuple[ServiceLimits, ...] = ()


class Result(msgspec.Struct, frozen=True):
    """What came of an order. `code` is for the host: 0 when it went well; `exit_code` negative for a signal, None when
    there is none; `lost`: nobody knows, or it never began, and `output` says why."""

    code: int
    exit_code: int | None
    timed_out: bool
    lost: bool
    output: str
    seconds: float


class Running(msgspec.Struct, frozen=True):
    """A command that is being waited for; `since_s` by the loop's clock; `unit` is systemd's."""

    order: Order
    since_s: float

    @property
    def unit(self) -> str:
        return unit_of(self.order.number)


class Keys(msgspec.Struct, frozen=True):
    """Where a key pair is had. Both give a descriptor of a file with PEM in it, the caller's to close; LookupError
    where this VM has none of that thumbprint."""

    private_key: Callable[[str], int]
    certificate: Callable[[str], int]


class Commands:
    """Of all handlers; `folder` has one folder for each number."""

    def __init__(self, loop: Loop, fleet: Fleet, layout: Layout, keys: Keys, log_folder: str) -> None:
        """`log_folder` is Extension.LogDir."""
        self._loop = loop
        self._fleet = fleet
        self._layout = layout
        self._keys = keys
        self._folders = OrderFolders(f"{layout.run}/handlers")
        self._log_folder = log_folder
        self._running: dict[int, Running] = {}

    @property
    def can_run(self) -> bool:
        """Whether systemd runs here."""
        return os.path.isdir(SYSTEMD)

    def running(self) -> tuple[Running, ...]:
        """Those that are being waited for, the oldest first."""
        return tuple(self._running.values())

    async def run(self, order: Order) -> Result:
        """Start it unless it was, wait for its end, and say how it ended; for the same number always the same.

        AgentError when none of that can be had now: then nothing was started by this call, or it runs on, and is found
        again by the next one. An order of another boot must not be given: its folder is gone."""
        try:
            with self._watched(order):
                return _result(order, await self._find(order) or await self._begin(order))
        except StateError as problem:
            return _lost(order, str(problem))

    async def find(self, order: Order) -> Result | None:
        """How it ended, waited for if it runs; None if it was never begun, and then only `run` begins it.

        Nothing is started; what another order left under its number is none of its own. `order` as for `run`.
        AgentError when it can't be known now."""
        try:
            with self._watched(order):
                found = await self._find(order)
        except StateError as problem:
            return _lost(order, str(problem))
        return _result(order, found) if found is not None else None

    def highest(self) -> int:
        """The highest number that a command of this boot had, 0 if there was none: the next one's is above it.
        StateError when it can't be known now."""
        try:
            return self._folders.highest()
        except OSError as error:
            raise StateError(f"the folder of commands can't be read: {error.strerror}") from None

    async def end(self, number: int) -> None:
        """Kill all that lives of it, and have systemd forget it. AgentError when that fails."""
        await self._ask(EndCommand(number, kill=True), Committed)

    async def forget(self, number: int) -> None:
        """Remove its folder, keys and all; the unit, too, unless something lives on in it. AgentError when it fails."""
        if not self._folders.is_alone(number):
            await self._ask(EndCommand(number, kill=False), Committed)
        self._folders.remove(number)

    @contextmanager
    def _watched(self, order: Order) -> Iterator[None]:
        """While its outcome is sought."""
        self._running[order.number] = Running(order, self._loop.clock.monotonic())
        try:
            yield
        except OSError as error:
            raise CommitError(f"the folder of command {order.number} can't be read: {error.strerror}") from None
        finally:
            self._running.pop(order.number, None)

    async def _find(self, order: Order) -> HandlerResult | None:
        there = self._folders.order(order.number)
        return await self._follow(order) if there is not None and _is_same(order, there) else None

    async def _begin(self, order: Order) -> HandlerResult:
        """StateError when systemd says no, its folder is bad, or another's, or the outcome is lost."""
        there = self._folders.order(order.number)
        if there is not None:
            what = f"{there.verb} of {there.handler}-{there.version}"
            raise StateError(f"it was not run: its number, {order.number}, is that of another command, {what}")
        self._write(order)
        try:
            # After an enable no other command is due.
            errand = Errand(order.handler, is_over=order.verb == "enable")
            standing, pidfd = await self._ask(self._start(order), CommandStanding, errand)
        except CommitError as refusal:
            # It may be running all the same: systemd was asked.
            found = await self._follow(order)
            if found is None:
                raise StateError(f"it was not run: {refusal}") from None
            return found
        return await self._end_of(order, standing, pidfd)

    async def _follow(self, order: Order) -> HandlerResult | None:
        """None when it has not begun, and then its warden never will. StateError when the outcome is lost."""
        found = self._folders.result(order.number)
        if found is not None:
            return found
        had_begun = self._folders.has_begun(order.number)
        standing, pidfd = await self._ask(AskCommand(order.number), CommandStanding)
        if standing.is_known or had_begun:
            return await self._end_of(order, standing, pidfd)
        if not self._folders.withdraw(order.number):
            raise CommitError(f"{unit_of(order.number)} has begun this moment")
        return None

    async def _end_of(self, order: Order, standing: CommandStanding, pidfd: int) -> HandlerResult:
        """StateError when nothing lives that could tell it, and nothing has been told."""
        while pidfd >= 0:
            await self._wait(order, pidfd)
            found = self._folders.result(order.number)
            if found is not None:
                return found
            # systemd may have yet to hear of the end.
            standing, pidfd = await self._ask(AskCommand(order.number), CommandStanding)
        found = self._folders.result(order.number)
        if found is None:
            raise StateError(_why_lost(order, standing, self._folders.has_begun(order.number)))
        return found

    async def _wait(self, order: Order, pidfd: int) -> None:
        """For the end of the warden, which is the command's end; if that was before, it is of something left behind."""
        try:
            if self._folders.result(order.number) is None:
                await self._loop.ready(pidfd, READ, order.timeout_s + MARGIN_S)
        except TimedOut:
            await self.end(order.number)
        finally:
            os.close(pidfd)

    async def _ask(
        self, question: Message, answer: type[Message], errand: Errand | None = None
    ) -> tuple[CommandStanding, int]:
        """What systemd knows, with a pidfd or -1; CommitError when that can't be known now."""
        got, descriptors = (await self._fleet.do(KIND, question, final=(answer,), errand=errand))[-1]
        if isinstance(got, CommandStanding):
            return got, descriptors[0] if descriptors else -1
        close_all(descriptors)
        if not isinstance(got, answer):
            raise CommitError(got.problem if isinstance(got, CommitFailed) else f"{KIND} answers {type(got).__name__}")
        return CommandStanding(is_known=False, is_running=False), -1

    def _write(self, order: Order) -> None:
        """The folder, whole: the order comes last. StateError."""
        content = HandlerOrder(
            order.handler,
            order.version,
            order.extension,
            order.verb,
            order.line,
            order.timeout_s,
            order.environment,
            order.base,
            order.folders,
            order.thumbprint,
            self._layout.lib,
            self._log_folder,
            (self._layout.state, self._layout.run),
            uid_of(order.handler) if order.handler_class == "contained" else 0,
            tuple(map(NAMES.index, order.without)),
            None if order.outbound is None else tuple((each.to, each.tcp, each.udp) for each in order.outbound),
        )
        try:
            folder = self._folders.make(order.number)
            if content.uid:
                # Its unit can make none.
                _make_open(self._log_folder)
                _make_open(f"{self._log_folder}/{order.handler}")
            if order.thumbprint:
                _copy(self._keys.certificate(order.thumbprint), f"{folder}/{order.thumbprint}.crt")
                _copy(self._keys.private_key(order.thumbprint), f"{folder}/{order.thumbprint}.prv")
            handler_order.write_order(folder, content)
        except LookupError as error:
            raise StateError(f"its settings name a certificate that can't be given to it: {error}") from None
        except OSError as error:
            raise StateError(f"the folder of command {order.number} can't be written: {error.strerror}") from None

    def _start(self, order: Order) -> StartCommand:
        tells, is_one = self._folders.tells_limit, order.limits != HandlerLimits()
        limits = order.limits if tells(slice_of(order.handler), is_one=is_one) else None
        services = tuple(each for each in order.services if tells(each.name, is_one=each.cpu_percent is not None))
        return StartCommand(
            order.number,
            f"Azure VM extension: {order.verb} of {order.handler}-{order.version}",
            slice_of(order.handler),
            limits,
            order.timeout_s,
            _containment(order, self._layout.lib, self._log_folder),
            services,
        )


def unit_of(number: int) -> str:
    """The unit of systemd's that the command of that number is."""
    return f"agent-supervisor-handler-{number}.service"


def _containment(order: Order, lib: str, log_folder: str) -> Containment | None:
    if order.handler_class != "contained":
        return None
    has_list = order.outbound is not None
    return Containment(lib, order.folders, log_folder, order.handler, order.thumbprint, order.network, has_list)


def uid_of(handler: str) -> int:
    """The account of its own that a handler has when it is contained: without a name, for good, in a range that no
    distribution and no systemd hands out."""
    return FIRST_UID + int(sha256_hex([handler.lower().encode()])[:7], 16)


def _make_open(folder: str) -> None:
    """Unless it is there, with whatever mode somebody gave it."""
    with suppress(FileExistsError):
        os.mkdir(folder)
        os.chmod(folder, 0o755)  # noqa: S103 - as waagent has it: people read vendors' logs there


def _copy(source: int, path: str) -> None:
    """By the kernel; `source` is closed."""
    try:
        with suppress(FileNotFoundError):
            os.unlink(path)
        target = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.fchmod(target, 0o400)
            offset = 0
            while offset < MOST_KEY_BYTES and (copied := os.sendfile(target, source, offset, MOST_KEY_BYTES - offset)):
                offset += copied
        finally:
            os.close(target)
    finally:
        os.close(source)


def _is_same(order: Order, there: HandlerOrder) -> bool:
    # Where a manifest is gone nobody knows the line any more.
    ours = (order.handler, order.version, order.extension, order.verb, order.line or there.line)
    return ours == (there.handler, there.version, there.extension, there.verb, there.line)


def _result(order: Order, found: HandlerResult) -> Result:
    code = TIMED_OUT if found.timed_out else CODES[order.verb] if found.exit_code else 0
    output = "\n".join((found.output, *found.notes))
    return Result(code, found.exit_code, found.timed_out, lost=False, output=output, seconds=found.seconds)


def _lost(order: Order, why: str) -> Result:
    return Result(CODES[order.verb], None, timed_out=False, lost=True, output=why, seconds=0.0)


def _why_lost(order: Order, standing: CommandStanding, began: bool) -> str:
    if not began and standing.is_known and standing.exit_status == 0:
        # So its warden ends when it has written a result: not into the folder that is there now.
        left = "what it has started lives on there, and is left alone" if standing.lives else "nothing of it lives"
        unit = unit_of(order.number)
        return f"its outcome is lost: {unit} has run it, and its folder in /run is gone; {left}; it is not run again"
    if not began:
        how = f"its warden ended with status {standing.exit_status}" if standing.is_known else "its unit is not known"
        return f"it was not run: {how}; journalctl -u {unit_of(order.number)} may tell more"
    if standing.timed_out:
        return f"its outcome is lost: systemd ended it because it ran on after {order.timeout_s} s"
    return "its outcome is lost: it was started, and ended without a word; it is not run again"
