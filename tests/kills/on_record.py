# SPDX-License-Identifier: Apache-2.0
"""Owns the judgement on what is on record of goal states after kills: each came to its end once at most, none was
begun and forgotten, and nothing that was kept for the host has gone without it.

Runs in the test.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from supervisor.journal import HEAD, MAGIC
from supervisor.layout import Layout
from supervisor.records import AnyRecord, GoalStateBegun, GoalStateEnded
from supervisor.telemetry.events import AgentEvent, LogEvent
from supervisor.telemetry.events import Counter as Measured
from supervisor.telemetry.spool import SUFFIX, Stored
from tests.fabric.scene import Scene
from tests.fabric.telemetry_rules import read_telemetry

_record = msgspec.msgpack.Decoder(AnyRecord)
# What tells one event from another, as the host gets it.
Told = tuple[str, str, str]


def journal_mistakes(content: bytes) -> list[str]:
    """Goal states in a journal's bytes that ended twice, or were begun and neither ended nor superseded by the next."""
    begun: list[tuple[str, str]] = []
    ended: Counter[tuple[str, str]] = Counter()
    for record in _records(content):
        if isinstance(record, GoalStateBegun):
            begun.append((record.id, record.created))
        elif isinstance(record, GoalStateEnded):
            ended[begun[-1]] += 1
    found = [f"the journal has {name} ended {times} times" for (name, _), times in ended.items() if times > 1]
    found += [f"the journal has {name} begun {times} times" for (name, _), times in Counter(begun).items() if times > 1]
    if begun and not ended[begun[-1]]:
        found.append(f"the journal has {begun[-1][0]} begun and not ended")
    return found


def audit_mistakes(scene: Scene) -> list[str]:
    """Goal states that the audit log has more than once at their end, or at their end and never intended."""
    decisions: dict[str, Counter[str]] = {}
    for file in sorted(scene.lab.path(Layout().state).glob(f"{Path(Layout().audit_log).name}*")):
        for line in file.read_bytes().splitlines():
            if b'"goal-state"' in line:
                entry = json.loads(line)
                decisions.setdefault(entry["request"], Counter())[entry["decision"]] += 1
    found = []
    for name, said in decisions.items():
        if said["done"] + said["failed"] > 1:
            found.append(f"the audit log has the end of {name} more than once: {dict(said)}")
        if not said["intended"]:
            found.append(f"the audit log has the end of {name}, which was never intended")
    return found


def kept_events(scene: Scene) -> Iterator[Told]:
    """Everything that waits on the agent's disk for the host, now."""
    for file in scene.lab.path(Layout().telemetry).glob(f"[0-9]*{SUFFIX}"):
        with suppress(FileNotFoundError):
            yield from map(_told, msgspec.msgpack.decode(file.read_bytes(), type=Stored))


def accepted_events(records: Iterable[dict[str, object]]) -> Counter[Told]:
    """Everything that the host took, as often as it did."""
    bodies = (str(each["body"]).encode() for each in records if each["route"] == "telemetry" and _is_accepted(each))
    return Counter(
        (event.told["OpcodeName"], event.number, event.told.get("Message") or event.told.get("Context1", ""))
        for body in bodies
        for event in read_telemetry(body)
    )


def _is_accepted(record: dict[str, object]) -> bool:
    return record["verdict"] == "accepted"


def _told(event: AgentEvent | Measured | LogEvent) -> Told:
    match event:
        case AgentEvent():
            return event.source.at, "1", event.message
        case Measured():
            return event.source.at, "4", ""
        case LogEvent():
            return event.source.at, "7", event.message


def _records(content: bytes) -> Iterator[AnyRecord]:
    at = len(MAGIC)
    while at + HEAD.size <= len(content):
        length, _ = HEAD.unpack_from(content, at)
        yield _record.decode(content[at + HEAD.size : at + HEAD.size + length])
        at += HEAD.size + length
