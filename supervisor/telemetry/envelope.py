# SPDX-License-Identifier: Apache-2.0
"""Owns the XML in which the host takes events (wire-protocol.md 11): events in, bodies of requests out. Pure."""

from collections.abc import Iterable, Iterator

import msgspec

from supervisor.compatibility import AGENT_NAME, AGENT_VERSION
from supervisor.telemetry.events import AgentEvent, Counter, Event, LogEvent
from supervisor.wire.report import quoted

# 2^16 less 2^10: what the service takes of one provider's events.
MOST_BYTES = 64512
# Of which what stands around the events takes less than this.
AROUND_BYTES = 256
ROOM_BYTES = MOST_BYTES - AROUND_BYTES
AGENT_PROVIDER = "69B669B9-4AF8-4C50-BDC4-6006FA76E975"
LOG_PROVIDER = "FFF0196F-EE4C-4EAF-9AA5-776F622DEB4F"
# bool before int, which it is one of.
TYPES = ((bool, "mt:bool"), (int, "mt:uint64"), (float, "mt:float64"), (str, "mt:wstr"))
Value = str | int | float | bool


class Common(msgspec.Struct, frozen=True):
    """What all events of this VM have; texts that nobody has told yet are empty. `image_origin` as the parser of
    instance metadata has it; `processor` is the architecture."""

    container_id: str = ""
    os_version: str = ""
    memory_mib: int = 0
    processors: int = 0
    processor: str = ""
    tenant: str = ""
    role: str = ""
    role_instance: str = ""
    location: str = ""
    subscription_id: str = ""
    resource_group: str = ""
    vm_id: str = ""
    image_origin: int = 0


def provider(event: Event) -> str:
    """The GUID of the provider that the host files `event` under."""
    return LOG_PROVIDER if isinstance(event, LogEvent) else AGENT_PROVIDER


class Packed(msgspec.Struct, frozen=True):
    """One request's body; `events` are in it. Without a body its one event is too large for any."""

    body: bytes
    events: int


def bodies(events: Iterable[Event], common: Common) -> Iterator[Packed]:
    """`events`, all of one provider, in their order, in as few bodies as may be."""
    group: list[bytes] = []
    size, name = 0, ""
    for event in events:
        name = provider(event)
        element = _element(event, common)
        if group and size + len(element) >= ROOM_BYTES:
            yield Packed(_envelope(name, group), len(group))
            group, size = [], 0
        if len(element) >= ROOM_BYTES:
            yield Packed(b"", 1)
            continue
        group.append(element)
        size += len(element)
    if group:
        yield Packed(_envelope(name, group), len(group))


def _envelope(name: str, elements: list[bytes]) -> bytes:
    head = f'<?xml version="1.0"?><TelemetryData version="1.0"><Provider id="{name}">'
    return b"".join((head.encode("ascii"), *elements, b"</Provider></TelemetryData>"))


def _element(event: Event, common: Common) -> bytes:
    number, own = _own(event)
    # Values are quoted, angle brackets as well: none of them can end the CDATA section.
    params = "".join(_param(name, value) for name, value in (*own, *_of_all(event, common)))
    return f'<Event id="{number}"><![CDATA[{params}]]></Event>'.encode()


def _param(name: str, value: Value) -> str:
    kind = next(written for python, written in TYPES if isinstance(value, python))
    return f'<Param Name="{name}" Value="{quoted(str(value))}" T="{kind}" />'


def _own(event: Event) -> tuple[int, tuple[tuple[str, Value], ...]]:
    """The number of the event's table, and what is its own."""
    match event:
        case AgentEvent():
            return 1, (
                ("Name", event.name),
                ("Version", event.version),
                ("Operation", event.operation),
                ("OperationSuccess", event.succeeded),
                ("Message", event.message),
                ("Duration", event.duration_ms),
                ("ExtensionType", event.extension_type),
                ("IsInternal", False),
            )
        case Counter():
            return 4, (
                ("Category", event.category),
                ("Counter", event.counter),
                ("Instance", event.instance),
                ("Value", event.value),
            )
        case LogEvent():
            return 7, (
                ("EventName", event.event_name),
                ("CapabilityUsed", event.level),
                ("Context1", event.message),
                ("Context2", event.timestamp),
                ("Context3", event.operation_id),
            )


def _of_all(event: Event, common: Common) -> tuple[tuple[str, Value], ...]:
    """What every event has, in the order of wire-protocol.md 11."""
    source = event.source
    architecture = msgspec.json.encode({"CpuArchitecture": common.processor}).decode()
    return (
        ("GAVersion", f"{AGENT_NAME}-{AGENT_VERSION}"),
        ("ContainerId", _known("ContainerId", common.container_id)),
        ("OpcodeName", source.at),
        ("EventTid", _number(source.tid)),
        ("EventPid", _number(source.pid)),
        ("TaskName", source.task),
        ("OSVersion", common.os_version),
        ("ExecutionMode", "IAAS"),
        ("RAM", common.memory_mib),
        ("Processors", common.processors),
        ("KeywordName", architecture),
        ("TenantName", _known("TenantName", common.tenant)),
        ("RoleName", _known("RoleName", common.role)),
        ("RoleInstanceName", _known("RoleInstanceName", common.role_instance)),
        ("Location", _known("Location", common.location)),
        ("SubscriptionId", _known("SubscriptionId", common.subscription_id)),
        ("ResourceGroupName", _known("ResourceGroupName", common.resource_group)),
        ("VMId", _known("VMId", common.vm_id)),
        ("ImageOrigin", common.image_origin),
    )


def _known(name: str, value: str) -> str:
    return value or f"{name}_UNINITIALIZED"


def _number(text: str) -> int:
    """What an extension says is its process's number, as long as it may be one."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 10 else 0
