# SPDX-License-Identifier: Apache-2.0
"""Owns one live worker as the supervisor sees it: its channel, its inbox, its end.

Runs in the supervisor. A message reaches the inbox only if the dispatch table permits it.
"""

import os
import select
import signal
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from ipc.channel import Channel, PacketChannel, Received
from ipc.descriptors import close_all
from ipc.errors import AgentError, ChannelClosed, ProtocolViolation, UnpermittedMessage
from policy.profile import Profile
from supervisor.audit_log_entry import Audit, Entry, summary, unrecorded
from supervisor.dispatch import MOST_MESSAGES, Table
from supervisor.exits import EXIT_PROTOCOL, exit_text
from supervisor.loop import Loop, Promise, TimedOut, Watched

if TYPE_CHECKING:
    from ipc.records import Event

LOG_BYTES_A_READ = 8192
# How long libzmq may take to hand over what a worker sent before it ended.
LAST_WORDS_S = 1.0
# A worker has this much to say: a stack or two, never a flood.
LOG_BYTES_A_WORKER = 64 * 1024
# Every line costs the log more than its own bytes; a worker of one-byte lines must not cost more than others.
COST_OF_A_LINE = 128
# In the audit log these are a worker's start, its being found right, and what came of a handler's request.
TOLD_OTHERWISE = frozenset({"WorkerReady", "Verification", "ForwardRequest", "ForwardRefused"})
BETWEEN = "came between two jobs"

WorkerState = Literal["starting", "ready", "working", "exited"]


class WorkerDied(AgentError):
    """The worker ended before its work was done; `exit_text` says how."""

    def __init__(self, name: str, exit_text: str) -> None:
        super().__init__(f"{name} {exit_text}")
        self.exit_text = exit_text


class WorkerHung(AgentError):
    """The worker passed its deadline; its stack is in the log."""


class WorkerViolation(AgentError):
    """The worker broke the channel's rules or its confinement is not what policy says; it was killed."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.name = name
        self.text = text


class Worker:
    """One instance, from the order to start it until its exit is known and its inbox read."""

    def __init__(  # noqa: PLR0913, PLR0917 - what one worker is, each given once, in one place
        self,
        loop: Loop,
        table: Table,
        profile: Profile,
        instance: int,
        serial: int,
        channel: Channel,
        audit: Audit = unrecorded,
    ) -> None:
        self.profile = profile
        self.kind = profile.kind
        self.uid = profile.identity.uid + (instance if profile.identity.uid else 0)
        self.instance = instance
        self.serial = serial
        self.channel = channel
        self.pid = 0
        self.pidfd = -1
        self.companion = 0
        self.missing = 0
        self.is_ended_by_us = False
        self.deadline_s = profile.lifetime.deadline_s
        # How many it has been given.
        self.jobs = 0
        self.state: WorkerState = "starting"
        self.since = loop.clock.monotonic()
        self.started: Promise[Event] = Promise()
        self.exited: Promise[Event] = Promise()
        self._loop = loop
        self._table = table
        self._audit = audit
        # How many of its messages may wait to be read; more are a flood, and end it.
        self.may_wait = MOST_MESSAGES
        self._sent: list[str] = []
        self._inbox: deque[Received] = deque()
        self._violation: ProtocolViolation | None = None
        self._waiting: Promise[None] | None = None
        self._source: Watched = channel.source
        loop.watch(self._source, self._fetch)
        self._heard_until = float("inf")
        self.exited.when_done(self._listen_on)

    @property
    def name(self) -> str:
        return f"{self.kind}.{self.instance}"

    @property
    def violation(self) -> str:
        """What it broke; empty as long as it keeps the rules."""
        return str(self._violation or "")

    def enter(self, state: WorkerState) -> None:
        """Note what it does now, for `ps`."""
        self.state = state
        self.since = self._loop.clock.monotonic()

    def take_on(self, deadline_s: float) -> None:
        """A job, of which it has `deadline_s`, or what policy gives it: what it has said so far, but for its being
        ready, was of another one."""
        self.jobs += 1
        self.deadline_s = min(self.profile.lifetime.deadline_s, deadline_s)
        del self._sent[1:]
        self.enter("working")

    def rest(self) -> None:
        """Between two jobs: whatever it says then condemns it, for it could pass for an answer of the next one."""
        self.enter("ready")
        if self._inbox:
            self.condemn(UnpermittedMessage(f"{type(self._inbox[0][0]).__name__} {BETWEEN}"))

    def is_silent(self) -> bool:
        """Whether it has broken no rule since, up to this moment."""
        poller = select.poll()
        poller.register(self.channel.source, select.POLLIN)
        if self._violation is None and poller.poll(0):
            self._fetch()
        return self._violation is None

    async def receive(self, timeout_s: float) -> Received:
        """Its next message. WorkerDied, WorkerViolation, or loop.TimedOut after `timeout_s`."""
        deadline = self._loop.clock.monotonic() + timeout_s
        while not self._inbox:
            if self._violation is not None:
                raise WorkerViolation(self.name, str(self._violation))
            if self.exited.done and not self._may_still_speak():
                raise self._end()
            await self._wait(deadline - self._loop.clock.monotonic())
        return self._inbox.popleft()

    def release(self) -> None:
        """Close everything that is ours; the process must be gone or told to go."""
        self._loop.unwatch(self._source)
        self.channel.close()
        for _, descriptors in self._inbox:
            close_all(descriptors)
        self._inbox.clear()
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1

    async def _wait(self, seconds: float) -> None:
        """Until something changes; the last words of a worker that ended are not waited for as long."""
        ended = self.exited.done
        self._waiting = Promise()
        try:
            await self._loop.within(self._waiting, min(seconds, LAST_WORDS_S) if ended else seconds)
        except TimedOut:
            if ended:
                raise self._end() from None
            raise

    def _end(self) -> AgentError:
        """How it ended. One that made a forbidden call, or asked its companion for what it may not have, is not tried
        again: the next one would get the same bytes."""
        status = self.exited.result().status
        by_filter = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSYS
        if by_filter or (os.WIFEXITED(status) and os.WEXITSTATUS(status) == EXIT_PROTOCOL):
            return WorkerViolation(self.name, exit_text(status))
        return WorkerDied(self.name, exit_text(status))

    def _listen_on(self) -> None:
        """It has ended; what it sent before may take a moment to arrive."""
        self._heard_until = self._loop.clock.monotonic() + LAST_WORDS_S
        self._loop.call_later(LAST_WORDS_S, self._wake)
        self._wake()

    def _may_still_speak(self) -> bool:
        """A worker that ended well may have words on the way: libzmq hands them over from a thread of its own."""
        if not isinstance(self.channel, PacketChannel):
            return self.exited.result().status == 0 and self._loop.clock.monotonic() < self._heard_until
        self._fetch()
        return bool(self._inbox) or self._violation is not None

    def _fetch(self) -> None:
        """Take in what has come, one message a call; anything that breaks a rule is the last thing heard."""
        try:
            message, descriptors = self.channel.receive(0)
        except ChannelClosed:
            # A packet socket at its end stays readable for ever; ZeroMQ has just nothing for us.
            if isinstance(self.channel, PacketChannel):
                self._loop.unwatch(self._source)
            return
        except ProtocolViolation as violation:
            self.condemn(violation)
            return
        try:
            if self.jobs and self.state == "ready":
                raise UnpermittedMessage(f"{type(message).__name__} {BETWEEN}")
            if len(self._inbox) >= self.may_wait:
                raise UnpermittedMessage(f"{type(message).__name__} came before others were answered")
            self._table.check(self.kind, message, self._sent, len(descriptors))
        except ProtocolViolation as violation:
            close_all(descriptors)
            self.condemn(violation)
            return
        name = type(message).__name__
        self._sent.append(name)
        if name not in TOLD_OTHERWISE:
            asked = Entry("request", self.name, self.kind, self.pid, self.uid, name, "permitted", summary(message))
            self._audit(asked)
        self._inbox.append((message, descriptors))
        self._wake()

    def condemn(self, violation: ProtocolViolation) -> None:
        """Hear nothing more of it: whoever waits for it gets `violation`, and ends it."""
        if self._violation is None:
            self._violation = violation
            self._loop.unwatch(self._source)
            self._wake()

    def _wake(self) -> None:
        if self._waiting is not None:
            self._waiting.fulfil(None)


class LogPipe:
    """The read end of a worker's stderr: whole lines go to `sink`, bounded, until the worker closes it."""

    def __init__(self, loop: Loop, descriptor: int, sink: Callable[[str], None]) -> None:
        os.set_blocking(descriptor, False)
        self._loop = loop
        self._descriptor = descriptor
        self._sink = sink
        self._rest = b""
        self._left = LOG_BYTES_A_WORKER
        loop.watch(descriptor, self._read)

    def _read(self) -> None:
        try:
            piece = os.read(self._descriptor, LOG_BYTES_A_READ)
        except BlockingIOError:
            return
        lines = (self._rest + piece).split(b"\n")
        self._rest = lines.pop()
        if not piece or len(self._rest) > LOG_BYTES_A_READ:
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            if line and self._left > 0:
                self._left -= len(line) + COST_OF_A_LINE
                self._sink(
                    line.decode("utf-8", "replace") if self._left > 0 else "(it says more than anyone will read)"
                )
        if not piece:
            self._loop.unwatch(self._descriptor)
            os.close(self._descriptor)
