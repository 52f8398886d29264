# SPDX-License-Identifier: Apache-2.0
"""Owns the shape of what `agent-supervisor ps` and `status` show; filled by the supervisor, read by the commands."""

from typing import Literal

import msgspec

from policy.profile import CompiledPolicy

# As people know them from cloud-init.
StatusWord = Literal["not started", "running", "done", "error", "disabled"]
# The kind of a row that is a vendor's, whose slice is its cgroup.
HANDLER = "handler"
ProcessState = Literal["starting", "ready", "working", "degraded", "waiting", "exited"]


class Counters(msgspec.Struct, frozen=True):
    """Since the supervisor started: restarts of processes, violations of the channel's rules, requests refused; and
    records that the audit log has no room for."""

    restarts: int = 0
    violations: int = 0
    refused: int = 0
    audit_lost: int = 0


class Status(msgspec.Struct, frozen=True):
    """Where provisioning stands. `detail` is what is being done, or what came of it; `since` wall time in seconds since
    1970, of the last change of `status`.

    `error` names the OVF element or the option, and what was expected; empty unless `status` is error. `changed`:
    whether a failure left anything changed on the machine, None where that is no question. `next` is what happens by
    itself. `troubles` tell what a provisioned VM still lacks. `agent` is who provisions, "nobody" if nobody does."""

    status: StatusWord = "not started"
    detail: str = ""
    since: float = 0.0
    error: str = ""
    changed: bool | None = None
    next: str = ""
    ready: bool = False
    troubles: tuple[str, ...] = ()
    agent: str = "agent-supervisor"

    @property
    def is_over(self) -> bool:
        return self.status in {"done", "error", "disabled"}

    @property
    def sentence(self) -> str:
        """All that matters in one line."""
        detail = self.detail.removeprefix(self.status).lstrip(" ,;")
        told = detail if self.changed is None else with_consequence(detail, changed=self.changed)
        return "; ".join(text for text in (self.status, told, self.next) if text)


def changes_sentence(*, changed: bool) -> str:
    """What a failure left behind, for people."""
    return "what was changed so far stays" if changed else "nothing was changed"


def with_consequence(problem: str, *, changed: bool) -> str:
    """`problem`, and what it left behind, unless it says so itself."""
    sentence = changes_sentence(changed=changed)
    return problem if problem.endswith(sentence) else f"{problem}; {sentence}"


class PolicyInForce(msgspec.Struct, frozen=True):
    """Which policy the processes are held to until the agent's next start, and where it comes from.

    `overrides` are files of policy.d, `signer` the fingerprint of the key that signed them, `loosened` what they give
    that the shipped policy does not; below `min_level`, or without the mechanisms `required`, no worker is started."""

    digest: str = ""
    overrides: tuple[str, ...] = ()
    signer: str = ""
    loosened: tuple[str, ...] = ()
    min_level: str = "basic"
    required: tuple[str, ...] = ()
    sentence: str = ""


def in_force(policy: CompiledPolicy) -> PolicyInForce:
    """What is shown of `policy`."""
    origin = policy.origin
    least = f"; least level {policy.min_level}" if policy.required else ""
    sentence = f"{policy.digest[:16]}, {origin.sentence}{least}"
    return PolicyInForce(
        policy.digest, origin.files, origin.signer, origin.loosened, policy.min_level, policy.required, sentence
    )


class Egress(msgspec.Struct, frozen=True):
    """The rule in front of the WireServer: in force by `mechanism` (ipc.messages.egress; empty: not in force, `why`)
    since the wall time `since`, seconds since 1970; put back so often, last after a change by `last_by`. `doubt`: why
    it can't be told whether it is as it should be; without a mechanism, whether there is one at all.

    `guests` names who else is let through for now. `refused` are attempts of others that the kernel's log told of.
    `lacking`: what of the rule can't be in force here, or can't be watched."""

    mode: str = "off"
    mechanism: str = ""
    since: float = 0.0
    put_back: int = 0
    last_by: str = ""
    why: str = ""
    guests: str = ""
    refused: int = 0
    doubt: str = ""
    lacking: str = ""

    @property
    def sentence(self) -> str:
        """All of it in one line."""
        if self.mode == "off":
            return "WireServer open to root and everybody else: OS.EnableFirewall is n, or Firewall.Mode is off"
        times = "once" if self.put_back == 1 else f"{self.put_back} times"
        history = f"; put back {times}, last after a change by {self.last_by}" if self.put_back else ""
        if self.why:
            return f"WireServer open to root and everybody else: {self.why}{history}"
        if self.doubt and not self.mechanism:
            return f"WireServer: not known whether it is open to root and everybody else: {self.doubt}{history}"
        if not self.mechanism:
            return "WireServer: the rule is being loaded"
        whose = "the supervisor's alone" if self.mode == "enforce" else "open to root and everybody else, and observed"
        guests = f", and {self.guests}'s for now" if self.guests else ""
        others = "attempts of others refused" if self.mode == "enforce" else "would have been refused"
        doubt = f", but that can't be tried: {self.doubt}" if self.doubt else ""
        refused = f"; {self.refused} {others}" if self.refused else ""
        lacking = f"; {self.lacking}" if self.lacking else ""
        return f"WireServer {whose}{guests} ({self.mechanism}, {self.mode}){doubt}{lacking}{refused}{history}"


class TelemetryShown(msgspec.Struct, frozen=True):
    """How many events the host has taken since this process began, how many wait for it, and how many it will never
    have; `trouble` is why it takes none now."""

    on: bool = False
    sent: int = 0
    waiting: int = 0
    lost: int = 0
    trouble: str = ""

    @property
    def sentence(self) -> str:
        """All of it in one line."""
        if not self.on:
            return "off"
        lost = f", {self.lost} lost" if self.lost else ""
        return f"{self.sent} events sent, {self.waiting} waiting{lost}" + (f": {self.trouble}" if self.trouble else "")


class HostContact(msgspec.Struct, frozen=True):
    """What passes between the host and this agent, once it is provisioned. Times are wall time, seconds since 1970, 0
    for never.

    `goal_state` is the id of the one in force, from `source` (WireServer, HostGAPlugin) and since `adopted`; `outcome`
    is what came of it where that was not good. `channel` is the one that took the last status. `polls_failed` and
    `uploads_failed` are in a row, `trouble` and `status_trouble` why the last one did; so are `settings_failed`, of
    vmSettings. `certificate_problems` are those that `certificates` tells. `waits`: which newer goal state is not in
    force yet, and for what. `telemetry` is None before anything is told."""

    goal_state: str = ""
    source: str = ""
    adopted: float = 0.0
    outcome: str = ""
    polls_failed: int = 0
    trouble: str = ""
    status_accepted: float = 0.0
    channel: str = ""
    uploads_failed: int = 0
    status_trouble: str = ""
    settings_failed: int = 0
    settings_trouble: str = ""
    certificate_problems: int = 0
    waits: str = ""
    telemetry: TelemetryShown | None = None


class Overview(msgspec.Struct, frozen=True):
    """The agent as a whole. `confinement` is full, reduced or basic (policy.level); `missing` names the mechanisms that
    the kernel lacks.

    `secure_channel` is how the host's stands, and whose key it has; empty before it is asked.
    `incarnation` is the goal state's, empty before the first; `started` is wall time in seconds since 1970."""

    version: str
    phase: str
    provisioning: str
    host: str
    incarnation: str
    confinement: str
    uptime_s: float
    started: float
    missing: tuple[str, ...] = ()
    counters: Counters = Counters()
    status: Status = Status()
    policy: PolicyInForce = PolicyInForce()
    egress: Egress = Egress()
    secure_channel: str = ""
    contact: HostContact = HostContact()


class ProcessRow(msgspec.Struct, frozen=True):
    """One process, or the place of one. `pid` is 0 when it does not run; `since_s`: so long in this state.

    `capabilities` are those it may have at most (bounding set), `filters` the system call filters in force on it. Of a
    HANDLER the supervisor tells the name of its slice alone, as `cgroup`: all in there are its processes."""

    name: str
    kind: str
    pid: int
    uid: int
    state: ProcessState
    since_s: float
    restarts: int = 0
    last_exit: str = ""
    capabilities: tuple[str, ...] = ()
    filters: int = 0
    cgroup: str = ""
    level: str = ""


class Snapshot(msgspec.Struct, frozen=True):
    """The answer to `ps`."""

    overview: Overview
    processes: tuple[ProcessRow, ...]

    def as_data(self) -> dict[str, object]:
        """As plain data, for the control socket."""
        data: dict[str, object] = msgspec.to_builtins(self)
        return data
