# SPDX-License-Identifier: Apache-2.0
"""Owns one boot's gaps: names each as it comes, kills in those that are wanted, lets everything else happen.

Runs as a thread of the test, outside the lab. A gap is a place in the life of a kind of process: before an effect, by
its words, or before the process' end. Names must not depend on what other processes do meanwhile.
"""

import contextlib
import os
import re
import select
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from tests.kills.calls import END, numbers
from tests.kills.effects import Caller, Effect, describe
from tests.kills.listener import Listener, Question
from tests.kills.processes import COMPANION, RESIDENTS, SPAWNER, SUPERVISOR, Actor, Processes

# In what the spawner does: whom it is about.
_ABOUT = re.compile(r"(?<=/workers/)[a-z][a-z-]*(?=[.]N)|(?<=pidfd_send_signal[(])[a-z-]+|(?<=/)supervisor(?=/|[)])")
HELD_S = 0.05
KILL = "KILL"
READY_SENT, READY_NOTED = "Ready", "ReadyAccepted"


class Gap(NamedTuple):
    """Where a process can be killed: `effect` is what it was about to do, of class `kind`."""

    who: str
    effect: str
    kind: str

    @property
    def process(self) -> str:
        """The kind of process that is killed there."""
        return self.who.partition(" [")[0]

    def __str__(self) -> str:
        return f"{self.who}: {self.effect}"


class Kill(NamedTuple):
    """A kill that was delivered, `at` seconds of the monotonic clock. `in_doubt`: the host may have been told Ready,
    and nobody had written that down."""

    gap: Gap
    at: float
    in_doubt: bool


Slow = Literal["supervisor", "worker"]


class Killer(threading.Thread):
    """A worker that has answered ends, and is ended: which comes first is luck, so one of them is made to be `slow`.

    `may` decides for each gap that comes whether to kill there. Use `attach` for every start of the agent."""

    def __init__(self, may: Callable[[Gap], bool], slow: Slow) -> None:
        super().__init__(name="killer", daemon=True)
        self.seen: dict[Gap, int] = {}
        self.kills: list[Kill] = []
        self.asked = 0
        self.trouble: BaseException | None = None
        self._may = may
        self._slow = slow
        self._held: list[tuple[float, Listener, Question]] = []
        self._names = numbers()
        self._processes = Processes()
        self._listeners: dict[int, Listener] = {}
        self._counts: Counter[tuple[int, str, str]] = Counter()
        self._context = ""
        self._doubt: deque[str] = deque(maxlen=1)
        self._armed = True
        self._is_slow = False
        self._round: tuple[Callable[[Gap], bool], Slow] | None = None
        self._begun = threading.Event()
        self._lock = threading.Lock()
        self._wake, self._waker = os.pipe()

    def attach(self, pid: int) -> None:
        """The agent's first process is `pid`; it waits for us."""
        listener = Listener(pid)
        with self._lock:
            self._processes.add_spawner(pid)
            self._listeners[listener.fileno()] = listener
        os.write(self._waker, b"+")

    def disarm(self) -> None:
        """Neither kill nor note gaps from now on."""
        self._armed = False

    def begin(self, may: Callable[[Gap], bool], slow: Slow) -> None:
        """A new round with the agent that runs: what was seen and killed so far is forgotten, effects are counted anew.

        Processes are looked up anew, too: in an hour their numbers come again."""
        self._begun.clear()
        self._round = may, slow
        os.write(self._waker, b"+")
        self._begun.wait(10)

    def stop(self) -> None:
        """End the thread; whoever still asks hears that there is no such call."""
        os.write(self._waker, b".")
        self.join(10)
        for listener in self._listeners.values():
            listener.close()
        os.close(self._wake)
        os.close(self._waker)

    def run(self) -> None:
        try:
            while self._serve():
                pass
        finally:
            # For the test, which waits for the boot: nobody is left asking without an answer.
            self.trouble = sys.exc_info()[1]
            if self.trouble is not None:
                for listener in self._listeners.values():
                    listener.close()
                self._listeners.clear()

    def _serve(self) -> bool:
        """Answer who asks now; False when told to stop."""
        if self._round is not None:
            (self._may, self._slow), self._round = self._round, None
            self.seen, self.kills = {}, []
            self._processes.forget()
            self._counts.clear()
            self._armed = True
            self._begun.set()
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        for descriptor in self._listeners:
            poller.register(descriptor, select.POLLIN)
        for descriptor, events in poller.poll(self._due_ms()):
            if descriptor == self._wake:
                if b"." in os.read(self._wake, 64):
                    return False
            elif events & select.POLLIN:
                listener = self._listeners[descriptor]
                question = listener.question()
                if question is not None and self._judge(listener, question):
                    self._answer(listener, question)
            else:  # nobody is left who could ask
                self._listeners.pop(descriptor).close()
                self._held = [held for held in self._held if held[1].fileno() != descriptor]
        return True

    def _answer(self, listener: Listener, question: Question) -> None:
        """At once, or after a while if this is the one that is slow."""
        if self._is_slow:
            self._held.append((time.monotonic() + HELD_S, listener, question))
        else:
            listener.let(question)

    def _due_ms(self) -> int | None:
        """Let go of those that were held for long enough; how long until the next one is."""
        now = time.monotonic()
        for _, listener, question in [held for held in self._held if held[0] <= now]:
            listener.let(question)
        self._held = [held for held in self._held if held[0] > now]
        return max(1, int(1000 * (min(held[0] for held in self._held) - now))) if self._held else None

    def _judge(self, listener: Listener, question: Question) -> bool:
        """Whether the call may happen; if not, its process is as good as dead."""
        self.asked += 1
        self._is_slow = False
        try:
            actor = self._processes.actor(question.tid)
            name = self._names[question.number]
            effect = describe(name, Caller(question.tid, question.arguments), self._processes.kind)
        except (OSError, KeyError):
            return True
        # A companion ends by itself or is ended with its worker, as it comes: that is no place in its life.
        if effect is None or (name == END and actor.is_companion) or not listener.waits(question):
            return True
        gap = self._gap(actor, effect)
        if self._armed:
            self.seen[gap] = self.seen.get(gap, 0) + 1
            if actor.main and self._may(gap) and self._kill(actor, gap):
                # The spawner's children at work on its own behalf end by themselves; nobody is there to end them.
                return actor.kind == SPAWNER and actor.pid != actor.main
        self._follow_ready(actor, effect)
        self._follow_ends(actor, name, effect)
        return True

    def _follow_ends(self, actor: Actor, call: str, effect: Effect) -> None:
        ends = call == END and actor.kind not in RESIDENTS and not actor.program
        ended = actor.kind == SUPERVISOR and effect.said == KILL
        self._is_slow = self._armed and (ends if self._slow == "worker" else ended)
        if ends and self._slow == "supervisor":  # it has come to its end, now the other may go on
            self._held = [(0.0, listener, question) for _, listener, question in self._held]

    def _gap(self, actor: Actor, effect: Effect) -> Gap:
        """A worker lives for one thing: its effects are counted. Residents live on: theirs are told by their words,
        the spawner's by the worker, too, that it is busy with."""
        if actor.kind == SPAWNER:
            about = _ABOUT.search(effect.text)
            # Of a worker and its companion either may be the first to end: what follows is about the two.
            self._context = about[0].removesuffix(COMPANION) if about else self._context
            beside = "" if about or not self._context else f" ({self._context})"
            return Gap(actor.name, f"{effect.text}{beside}", effect.kind)
        if actor.tid != actor.pid and not actor.program:
            # ZeroMQ's thread: how many messages go in one call is luck.
            what = "greeting" if effect.said in {"", "bytes"} else "messages"
            return Gap(actor.name, what, effect.kind)
        if actor.kind == SUPERVISOR:
            return Gap(actor.name, effect.text, effect.kind)
        self._counts[actor.tid, actor.program, effect.text] += 1
        count = self._counts[actor.tid, actor.program, effect.text]
        return Gap(actor.name, f"{effect.text} #{count}" if count > 1 else effect.text, effect.kind)

    def _follow_ready(self, actor: Actor, effect: Effect) -> None:
        """Between the host's acceptance of Ready and the journal's record of it nobody can know that it was told."""
        if actor.kind != SUPERVISOR:
            return
        if self._doubt == deque(["noted"]):
            self._doubt.clear()
        if READY_NOTED in effect.said:
            self._doubt.append("noted")
        elif READY_SENT in effect.said.split():
            self._doubt.append("sent")

    def _kill(self, actor: Actor, gap: Gap) -> bool:
        """kill -9 of the agent's process. A program that it had started waits with its effect for its own end."""
        in_doubt = actor.kind in RESIDENTS and bool(self._doubt)
        try:
            os.kill(actor.main, signal.SIGKILL)
        except ProcessLookupError:
            return False
        self.kills.append(Kill(gap, time.monotonic(), in_doubt))
        if actor.kind in RESIDENTS:
            self._doubt.clear()
        return True


@contextlib.contextmanager
def killing(may: Callable[[Gap], bool], slow: Slow) -> Iterator[Killer]:
    """A killer at work; raises what went wrong in it."""
    killer = Killer(may, slow)
    killer.start()
    try:
        yield killer
    finally:
        killer.stop()
    if killer.trouble is not None:
        raise killer.trouble
