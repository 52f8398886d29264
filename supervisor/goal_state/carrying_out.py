# SPDX-License-Identifier: Apache-2.0
"""Owns what is done with a goal state once it is chosen: written down, handed to who carries it out, ended.

Runs in the supervisor. A goal state is acted on after the journal has it, and counts as ended after the journal has
that: whenever this process is killed, the next one knows which of the two is so.
"""

from collections.abc import Collection
from typing import Literal, Protocol

from msgspec.structs import replace

from ipc.messages import Plugin
from supervisor.audit_log_entry import Audit, Decision, Entry
from supervisor.clock import Clock
from supervisor.goal_state.adopted import NOT_RUN, OK, UNSUPPORTED_FEATURES, UNUSABLE, Adopted, HandlerStatus, Outcome
from supervisor.goal_state.choice import unsupported
from supervisor.journal import Journal
from supervisor.records import GoalStateBegun, GoalStateEnded

MAX_MESSAGE_CHARACTERS = 2000
RUNS_NONE = "no systemd runs on this machine, which would start its commands"
Refusal = Literal["", "off", "hold", "outdated"]
REFUSED = {
    "": RUNS_NONE,
    "off": "Extensions.Enabled is n in the agent's configuration",
    "hold": "the VM is on hold, by the platform's word",
    "outdated": "this goal state is older than the last one that the platform gave by FastTrack",
}


class Extensions(Protocol):
    """Whoever carries out what goal states want of handlers; it tells of the end of each that had none yet."""

    def take(self, adopted: Adopted, *, has_ended: bool) -> None: ...

    def renew(self, adopted: Adopted) -> None: ...

    def rest(self) -> None: ...

    def handlers(self) -> tuple[HandlerStatus, ...]: ...


class CarryingOut:
    """Carries goal states out, one after another. `extensions` is None where no handler can be run."""

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        audit: Audit,
        *,
        extensions_enabled: bool,
        extensions: Extensions | None = None,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._audit = audit
        self._extensions_enabled = extensions_enabled
        self._extensions = extensions

    def was_ended(self, adopted: Adopted) -> bool:
        """Whether the journal has it that `adopted` came to its end, in this process or an earlier one."""
        run = self._journal.state.goal_state
        return run is not None and run.ended and run.is_of(adopted.id, adopted.goal_state.created)

    def carry_out(self, adopted: Adopted, features: Collection[str]) -> Adopted:
        """`adopted` as it is afterwards; `features` are those that the host has been told of. One that has ended before
        is told as it ended then, and not carried out again. StateError: it could not be written down, nothing was done.

        Where handlers can be run it has no outcome until they have ended: then `end` is to be called."""
        if adopted.is_outdated:
            return self._rest(replace(adopted, handlers=self._handlers(adopted, "outdated"), outcome=None))
        run = self._journal.state.goal_state
        if run is not None and self.was_ended(adopted):
            ended = replace(adopted, outcome=Outcome(run.code, run.message, run.ended_s))
            return self._rest(ended) if run.code else self._carried_out(ended) or self._told(ended)
        self._begin(adopted)
        lacking = unsupported(adopted.goal_state, features)
        if lacking:
            problem = f"{adopted.id} requires features that this agent does not have: {', '.join(lacking)}"
            return self._rest(self._end(adopted, UNSUPPORTED_FEATURES, problem[:MAX_MESSAGE_CHARACTERS]))
        return self._carried_out(adopted) or self._end(self._told(adopted), OK, "")

    def end(self, adopted: Adopted) -> Adopted:
        """`adopted` with its outcome: its handlers have ended, each as well as it could. StateError."""
        return self._end(adopted, OK, "")

    def _carried_out(self, adopted: Adopted) -> Adopted | None:
        """Handed to who does it; None where there is nobody, or it is not to be done."""
        if self._extensions is None or adopted.is_on_hold:
            return None
        self._extensions.take(adopted, has_ended=adopted.outcome is not None)
        return replace(adopted, handlers=self._extensions.handlers())

    def _rest(self, adopted: Adopted) -> Adopted:
        """Nothing of it is to be done."""
        if self._extensions is not None:
            self._extensions.rest()
        return adopted

    def _begin(self, adopted: Adopted) -> None:
        run = self._journal.state.goal_state
        created = adopted.goal_state.created
        if run is None or not run.is_of(adopted.id, created):
            self._journal.append(GoalStateBegun(adopted.id, created))
            superseded = f"; {run.id}, which had begun, is superseded" if run is not None and not run.ended else ""
        else:
            superseded = "; it had begun before, and is finished now"
        goal_state = adopted.goal_state
        wanted = f"{goal_state.source}, created {created}, {len(goal_state.plugins)} handlers{superseded}"
        self._record(adopted, "intended", wanted)

    def _end(self, adopted: Adopted, code: int, message: str) -> Adopted:
        ended_s = self._clock.wall()
        self._journal.append(GoalStateEnded(adopted.id, code, message, ended_s))
        self._record(adopted, "failed" if code else "done", message)
        return replace(adopted, outcome=Outcome(code, message, ended_s))

    def _record(self, adopted: Adopted, decision: Decision, detail: str) -> None:
        self._audit(Entry("goal-state", request=adopted.id, decision=decision, detail=detail))

    def _told(self, adopted: Adopted) -> Adopted:
        """With what is told of handlers that are not run."""
        why: Refusal = "off" if not self._extensions_enabled else "hold" if adopted.is_on_hold else ""
        return self._rest(replace(adopted, handlers=self._handlers(adopted, why)))

    def _handlers(self, adopted: Adopted, why: Refusal) -> tuple[HandlerStatus, ...]:
        """One for each handler, or for each set of settings where a handler has several; none was carried out."""
        told = (each for plugin in adopted.goal_state.plugins for each in _of_plugin(plugin, REFUSED[why]))
        return tuple(told)


def _of_plugin(plugin: Plugin, why: str) -> list[HandlerStatus]:
    if plugin.problem or not plugin.settings:
        number = plugin.settings[0].sequence_number if plugin.settings and not plugin.is_multi_config else None
        return [_status(plugin, plugin.problem, why, number, "")]
    return [
        _status(plugin, each.problem, why, each.sequence_number, each.name if plugin.is_multi_config else "")
        for each in plugin.settings
    ]


def _status(plugin: Plugin, problem: str, why: str, number: int | None, extension: str) -> HandlerStatus:
    code = UNUSABLE if problem else NOT_RUN
    message = f"not carried out: {problem or why}"
    return HandlerStatus(plugin.name, plugin.version, "NotReady", code, message, number, extension)
