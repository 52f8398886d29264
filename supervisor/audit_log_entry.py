# SPDX-License-Identifier: Apache-2.0
"""Owns what one entry of the audit log can tell, and how a message is told in it: by its fields, never its secrets.

Used by the supervisor, which makes entries, and by `agent-supervisor log`, which reads them. Pure.
"""

from collections.abc import Callable
from typing import Literal

import msgspec

from ipc.messages import Message
from ipc.secret import Secret

MOST_CHARACTERS = 512
TEXT_CHARACTERS = 64

Event = Literal[
    # Of the log itself.
    "log-begun", "log-rotated", "log-repaired", "log-damaged", "records-missing", "records-lost",
    # Of the agent.
    "agent-start", "agent-stop", "policy", "phase", "control",
    # Of a worker, from its order to its end.
    "worker-start", "worker-refused", "worker-verified", "worker-hung", "worker-exit", "violation",
    # What a worker asked for, what was decided on it, and what was done.
    "request", "decision", "commit",
    # Of the rule in front of the WireServer: in force, changed, not in force; and whom it refuses.
    "egress", "refusal",
    # Of the host's secure channel: how it stands, a key written, attested.
    "secure-channel",
    # Of a goal state: about to be carried out, and how that ended.
    "goal-state",
    # Of an extension: one of its commands, and what is made of a handler.
    "extension",
    # Of a grant to the WireServer: opened, closed; and each request under it, passed on or refused.
    "grant", "forwarded",
]  # fmt: skip
Decision = Literal["", "permitted", "refused", "intended", "done", "failed"]


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """What happened. Only what an event has is set, and only that is written.

    `worker` is KIND.N. `pid` and `uid` are the worker's or, of `control`, the asker's. `request` is a message's name or
    a verb. `detail` is for people. `digest` is a policy's, `boot` the kernel's id of this boot. `missing`: mechanisms
    that the machine could not give. `first`, `last`, `count`: of records about the log, which records those are."""

    event: Event
    worker: str = ""
    kind: str = ""
    pid: int = 0
    uid: int = -1
    request: str = ""
    decision: Decision = ""
    detail: str = ""
    digest: str = ""
    boot: str = ""
    missing: tuple[str, ...] = ()
    cpu_us: int = 0
    peak_kib: int = 0
    first: int = 0
    last: int = 0
    count: int = 0


Audit = Callable[[Entry], None]


def unrecorded(_: Entry) -> None:
    """Where nobody keeps an audit log: in the benches and rigs of tests."""


def summary(message: Message) -> str:
    """What `message` says, in one line of bounded length; of a list only how long it is, of a secret nothing."""
    told = ", ".join(f"{name}: {_brief(getattr(message, name))}" for name in message.__struct_fields__)
    return told[:MOST_CHARACTERS]


def _brief(value: object) -> str:
    if isinstance(value, str):
        return repr(value if len(value) <= TEXT_CHARACTERS else f"{value[:TEXT_CHARACTERS]}...")
    if isinstance(value, tuple):
        return f"[{len(value)}]"
    if isinstance(value, bool | int | Secret | None):
        return str(value)
    return type(value).__name__
