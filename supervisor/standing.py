# SPDX-License-Identifier: Apache-2.0
"""Owns where provisioning stands, as typed facts: what `status` and `ps` tell, and what a script may rely on.

Runs in the supervisor. It decides nothing, and keeps no secret: its texts have gone to the log already.
"""

from collections.abc import Callable, Mapping
from typing import Literal

from supervisor.clock import Clock
from supervisor.status import Status, StatusWord

# `done` and `failed` are the ends of this agent's work; `not-ours`: somebody else provisions, or nobody does.
Outcome = Literal["not-begun", "running", "done", "failed", "not-ours"]
OVER: tuple[Outcome, ...] = ("done", "failed", "not-ours")
NEXT_START = "the next start tries again"
OURSELVES, NOBODY = "agent-supervisor", "nobody"
WORDS: Mapping[Outcome, StatusWord] = {
    "not-begun": "not started",
    "running": "running",
    "done": "done",
    "failed": "error",
    "not-ours": "disabled",
}


class Standing:
    """`text` is what stands now; `since` the wall time (s) of the last change of `outcome`; `error` why it failed.

    `changed`: whether anything on this machine was changed, None while that can't be told. `ready`: the host has
    accepted Ready, now or on an earlier start. `troubles`: what a provisioned VM still lacks, by its name.
    `agent`: who provisions."""

    def __init__(
        self, clock: Clock, on_over: Callable[[], None] = lambda: None, clean: Callable[[str], str] = str
    ) -> None:
        """`on_over` is called once, when provisioning is over for the first time; `clean` takes out secrets."""
        self.outcome: Outcome = "not-begun"
        self.text = "this start has not looked at it yet"
        self.error = ""
        self.agent = OURSELVES
        self.since = clock.wall()
        self.changed: bool | None = None
        self.ready = False
        self.troubles: dict[str, str] = {}
        self._clean = clean
        self._clock = clock
        self._on_over: Callable[[], None] | None = on_over

    @property
    def is_over(self) -> bool:
        return self.outcome in OVER

    def tell(self, text: str) -> None:
        """What is being done now."""
        self.text = self._clean(text)

    def enter(self, outcome: Outcome, text: str = "", *, ready: bool = False) -> None:
        """A new outcome; without `text` the old one stays. `ready`: the host has accepted Ready."""
        if outcome != self.outcome:
            self.since = self._clock.wall()
        self.outcome = outcome
        self.text = self._clean(text) or self.text
        self.ready = ready or self.ready
        if self.is_over and self._on_over is not None:
            on_over, self._on_over = self._on_over, None
            on_over()

    def fail(self, problem: str, *, changed: bool) -> None:
        """It failed, and left the machine changed or not."""
        self.error = self._clean(problem)
        self.changed = changed
        self.enter("failed", f"failed: {problem}")

    def leave_to(self, agent: str, why: str) -> None:
        """It is the affair of `agent`, which may be NOBODY."""
        self.agent = agent
        self.enter("not-ours", why)

    def lacks(self, what: str, problem: str) -> None:
        """`what` is missing because of `problem`, and a VM may live without it."""
        self.troubles[what] = self._clean(problem)

    def has(self, what: str) -> None:
        """`what` is there after all."""
        self.troubles.pop(what, None)

    def status(self) -> Status:
        """The same for who asks."""
        return Status(
            status=WORDS[self.outcome],
            detail=self.text,
            since=self.since,
            error=self.error,
            changed=self.changed,
            next=NEXT_START if self.outcome == "failed" else "",
            ready=self.ready,
            troubles=tuple(f"{what}: {problem}" for what, problem in self.troubles.items()),
            agent=self.agent,
        )
