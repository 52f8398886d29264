# SPDX-License-Identifier: Apache-2.0
"""Owns what is told of the rule: to the log, to the audit log, to `ps`. Runs in the supervisor; it decides nothing."""

from collections.abc import Callable, Sequence

import msgspec

from ipc.messages.egress import Mechanism
from policy.egress import PORTS
from supervisor.audit_log_entry import Audit, Entry
from supervisor.clock import Clock
from supervisor.egress.events import OVERFLOWN
from supervisor.egress.guests import Guests
from supervisor.egress.wanted import Wanted
from supervisor.status import Egress

RULE = "the rule in front of the WireServer"
OPEN = "WireServer open to root and everybody else"


class Cause(msgspec.Struct, frozen=True):
    """Why the rule is loaded; `changed_by`: who changed it, in words; `quiet`: not worth a line if all is as before."""

    text: str
    changed_by: str = ""
    quiet: bool = False


PERIOD = Cause("looked at after its period", quiet=True)


class Account:
    """`status` is for `ps`."""

    def __init__(self, mode: str, clock: Clock, say: Callable[[str, str, str], None], audit: Audit) -> None:
        """`say` takes (level, source, text) for the log."""
        self.status = Egress(mode=mode)
        self._clock = clock
        self._say = say
        self._audit = audit

    def switched_off(self) -> None:
        """By the settings, which is worth a line and a record at each start."""
        self._say("warning", "firewall", self.status.sentence)
        self._audit(Entry("egress", detail=self.status.sentence))

    def changed(self, who: str) -> Cause:
        """Somebody changed it, or may have (events.OVERFLOWN): why it has to be put back."""
        what = "may have been" if who == OVERFLOWN else "was"
        self._say("warning", "firewall", f"{RULE} {what} changed by {who}: it is put back")
        return Cause("put back", who)

    def disturbed(self) -> None:
        """Somebody changed it in the moment of its load."""
        self._say("warning", "firewall", f"rules were changed while {RULE} was loaded: it is loaded again")

    def loaded(self, fact: str) -> None:
        """What a committer says of its work."""
        self._say("verbose", "firewall", fact)

    def in_force(  # noqa: PLR0913, PLR0917 - all that is told of it
        self,
        mechanism: Mechanism,
        wanted: Wanted,
        guests: Guests,
        cause: Cause,
        failed: Sequence[str],
        doubt: str,
        lacking: str = "",
    ) -> None:
        """`failed` are the mechanisms that come before it, each with what is wrong with it; `doubt`: why it can't be
        tried; `lacking`: what of it can't be in force."""
        before = self.status
        self.status = Egress(
            wanted.mode,
            mechanism,
            self._clock.wall(),
            before.put_back + bool(cause.changed_by),
            cause.changed_by or before.last_by,
            guests=guests.who if guests.are_admitted else "",
            doubt=doubt,
            lacking=lacking,
        )
        untried = f"it can't be tried: {doubt}" if doubt else ""
        asides = [*_asides(mechanism, guests), *filter(None, (untried, lacking)), *failed]
        told = "; ".join([f"{mechanism}, {wanted.mode}, {cause.text}", *asides])
        if (before.mechanism, before.doubt, before.lacking) != (mechanism, doubt, lacking) or not cause.quiet:
            own = f"ports {' and '.join(map(str, PORTS))} of {wanted.address}"
            self._say("warning" if failed or doubt else "info", "firewall", f"rule for {own} in force: {told}")
        by = f", changed by {cause.changed_by}" if cause.changed_by else ""
        self._audit(Entry("egress", decision="done", detail=f"in force: {told}{by}"))

    def failed(self, why: str, wanted: Wanted, cause: Cause, doubt: str) -> None:
        """No mechanism works. `doubt`: why it is not known whether a rule of ours is left."""
        before = self.status
        doubt = doubt and f"{doubt}: {why}"
        if (doubt or why) != (before.doubt or before.why):
            state = f"not known whether {RULE} is in force: {doubt}" if doubt else f"{OPEN}: {why}"
            self._say("error", "firewall", f"{state}; tried again, in the end every {wanted.period_s:g} s")
        self._audit(Entry("egress", decision="failed", detail=f"not in force ({cause.text}): {why}"))
        by = cause.changed_by or before.last_by
        self.status = Egress(
            wanted.mode, "", self._clock.wall(), before.put_back, by, "" if doubt else why, doubt=doubt
        )

    def not_removed(self, why: str) -> None:
        """Something of the rule may be left that should not be."""
        self._say("error", "firewall", f"what is left of the rule can't be removed: {why}")


def _asides(mechanism: Mechanism, guests: Guests) -> list[str]:
    """What weakens the rule for now."""
    if not guests.are_admitted:
        return []
    whom = "everything that root runs" if mechanism != "nft-cgroup" else ", ".join(guests.cgroups)
    return [f"{whom} is let through until {guests.who} is done"]
