# SPDX-License-Identifier: Apache-2.0
"""Owns the shapes of events (wire-protocol.md 11). Pure.

What an event says is fixed when it is made; what is the same for all of a VM's events is added when they are sent.
"""

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from supervisor.compatibility import AGENT_NAME, AGENT_VERSION

# An event's own text; the same bound as an extension's message has (extensions.md).
MESSAGE_CHARACTERS = 3072


class Source(msgspec.Struct, frozen=True, array_like=True):
    """Where and when an event came from: wall time as text, a thread's or task's name, numbers as they were told."""

    at: str
    task: str
    pid: str
    tid: str


class AgentEvent(msgspec.Struct, frozen=True, tag="agent", array_like=True):
    """Something that this agent did or met, in the table GuestAgentExtensionEvents. `duration_ms` is 0 where it has
    none; `name` and `version` are a handler's where the event is about one."""

    source: Source
    operation: str
    succeeded: bool
    message: str
    duration_ms: int = 0
    name: str = AGENT_NAME
    version: str = AGENT_VERSION
    extension_type: str = ""


class Counter(msgspec.Struct, frozen=True, tag="counter", array_like=True):
    """One measurement, in the table PerformanceCounter."""

    source: Source
    category: str
    counter: str
    instance: str
    value: float


class LogEvent(msgspec.Struct, frozen=True, tag="log", array_like=True):
    """One line, in the table GenericLogs: an extension's event."""

    source: Source
    event_name: str
    level: str
    message: str
    timestamp: str
    operation_id: str


Event: TypeAlias = AgentEvent | Counter | LogEvent


def cleaned(event: Event, clean: Callable[[str], str]) -> Event:
    """`event` with every text of it through `clean`; messages are cut to what an event may have."""
    changes = {
        name: clean(value)[:MESSAGE_CHARACTERS]
        for name in event.__struct_fields__
        if isinstance(value := getattr(event, name), str) and value
    }
    return msgspec.structs.replace(event, **changes)
