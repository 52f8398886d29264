# SPDX-License-Identifier: Apache-2.0
"""Owns the strict reading of what the emulated host is told of events and observations (wire-protocol.md 11, 12).

Runs in test processes. It knows the form alone, and the service's limit on how often one may call.
"""

import json
import re
from collections import deque
from dataclasses import dataclass

from tests.fabric.documents import Node, tree
from tests.fabric.wire_book import Refusal, Trial

EXTENSION_EVENTS, GENERIC_LOGS = "69B669B9-4AF8-4C50-BDC4-6006FA76E975", "FFF0196F-EE4C-4EAF-9AA5-776F622DEB4F"
COMMON = {
    "GAVersion": "wstr",
    "ContainerId": "wstr",
    "OpcodeName": "wstr",
    "EventTid": "uint64",
    "EventPid": "uint64",
    "TaskName": "wstr",
    "KeywordName": "wstr",
    "OSVersion": "wstr",
    "ExecutionMode": "wstr",
    "RAM": "uint64",
    "Processors": "uint64",
    "TenantName": "wstr",
    "RoleName": "wstr",
    "RoleInstanceName": "wstr",
    "Location": "wstr",
    "SubscriptionId": "wstr",
    "ResourceGroupName": "wstr",
    "VMId": "wstr",
    "ImageOrigin": "uint64",
}
# Provider and event id -> what is told beside that.
TABLES = {
    (EXTENSION_EVENTS, "1"): {
        "Name": "wstr",
        "Version": "wstr",
        "Operation": "wstr",
        "OperationSuccess": "bool",
        "Message": "wstr",
        "Duration": "uint64",
        "ExtensionType": "wstr",
        "IsInternal": "bool",
    },
    (EXTENSION_EVENTS, "4"): {"Category": "wstr", "Counter": "wstr", "Instance": "wstr", "Value": "float64"},
    (GENERIC_LOGS, "7"): {
        "EventName": "wstr",
        "CapabilityUsed": "wstr",
        "Context1": "wstr",
        "Context2": "wstr",
        "Context3": "wstr",
    },
}
VALUES = {
    "wstr": re.compile(r".*", re.DOTALL),
    "uint64": re.compile(r"\d{1,20}"),
    "bool": re.compile("True|False|true|false"),
    "float64": re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?"),
}
MOST_BODY_BYTES = 65536
CALLS, WINDOW_S = 15, 15.0
OBSERVED = (
    "GuestAgentPluginHeartbeat",
    "GuestAgentPluginStatus",
    "GuestAgentPluginVersions",
    "GuestAgentPluginArtifact",
    "InstanceMetadataHeartbeat",
)
MOST_OBSERVATIONS = 10
_SIZES = {"ObservationName": 64, "Description": 128, "Value": 128}


@dataclass(frozen=True)
class Event:
    """One event: its provider, its id, and what it tells, by name."""

    provider: str
    number: str
    told: dict[str, str]


class Rate:
    """How often the service may be called: CALLS in WINDOW_S seconds."""

    def __init__(self) -> None:
        self._calls: deque[float] = deque()

    def admit(self, now: float, trial: Trial) -> None:
        """Count a call. Raises Refusal."""
        while self._calls and now - self._calls[0] >= WINDOW_S:
            self._calls.popleft()
        often = f"more than {CALLS} calls in {WINDOW_S:g} s"
        trial.demand("telemetry-rate", len(self._calls) < CALLS, often, 429)
        self._calls.append(now)


def read_telemetry(body: bytes, trial: Trial | None = None) -> tuple[Event, ...]:
    """The events in one body. Raises Refusal for anything but the exact form."""
    trial = trial or Trial()
    demand = trial.demand
    demand("telemetry-size", len(body) <= MOST_BODY_BYTES, f"a body of {len(body)} bytes")
    root = tree(body, trial)
    right = root.name == "TelemetryData" and root.attributes == {"version": "1.0"}
    demand("telemetry-root", right, "the root is not TelemetryData of version 1.0")
    events: list[Event] = []
    demand("telemetry-provider", bool(root.children), "there is no Provider")
    for provider in root.children:
        named = provider.name == "Provider" and list(provider.attributes) == ["id"]
        known = named and any(provider.attributes["id"] == name for name, _ in TABLES)
        demand("telemetry-provider", known, f"{provider.name} {provider.attributes} is no provider that is known")
        demand("telemetry-event", bool(provider.children), "a provider without events")
        events += [_event(provider.attributes["id"], child, trial) for child in provider.children]
    return tuple(events)


def _event(provider: str, node: Node, trial: Trial) -> Event:
    number = node.attributes.get("id", "")
    known = node.name == "Event" and list(node.attributes) == ["id"] and (provider, number) in TABLES
    trial.demand("telemetry-event", known, f"{node.name} {node.attributes} is no event of {provider}")
    forms = TABLES[provider, number] | COMMON
    try:
        parameters = tree(f"<Params>{node.content()}</Params>".encode(), trial).children
    except Refusal as refusal:
        raise Refusal("telemetry-parameters", f"within an event: {refusal.why}") from None
    told: dict[str, str] = {}
    for parameter in parameters:
        name, form = parameter.attributes.get("Name", ""), parameter.attributes.get("T", "")
        shaped = parameter.name == "Param" and list(parameter.attributes) == ["Name", "Value", "T"]
        trial.demand("telemetry-parameters", shaped, f"{parameter.name} has {list(parameter.attributes)}")
        typed = form == f"mt:{forms.get(name)}"
        why = f"parameter {name!r} of type {form!r} does not belong to event {number}, or is given twice"
        trial.demand("telemetry-parameters", typed and name not in told, why)
        value = parameter.attributes["Value"]
        fits = VALUES[forms[name]].fullmatch(value) is not None
        trial.demand("telemetry-values", fits, f"{name} is {value[:40]!r}, which is no {form}")
        told[name] = value
    missing = sorted(forms.keys() - told.keys())
    trial.demand("telemetry-parameters", not missing, f"event {number} lacks {', '.join(missing)}")
    return Event(provider, number, told)


def read_observations(body: bytes, trial: Trial | None = None) -> tuple[dict[str, object], ...]:
    """The observations in one body. Raises Refusal."""
    demand = (trial or Trial()).demand
    try:
        told = json.loads(body)
    except ValueError:
        told = None
    fixed = {"Api": "reporttargethealth", "Version": "1.0", "Source": "WALinuxAgent"}
    right = isinstance(told, dict) and {name: told.get(name) for name in fixed} == fixed
    demand("observations-form", right and told.keys() == {*fixed, "Observations"}, "not the form of observations")
    listed = told["Observations"]
    few = isinstance(listed, list) and 0 < len(listed) <= MOST_OBSERVATIONS
    demand("observations-count", few, f"not 1 to {MOST_OBSERVATIONS} observations")
    for one in listed:
        whole = isinstance(one, dict) and one.keys() == {*_SIZES, "IsHealthy"}
        demand("observations-form", whole and isinstance(one["IsHealthy"], bool), "an observation of another form")
        sized = all(isinstance(one[name], str) and len(one[name]) <= size for name, size in _SIZES.items())
        demand("observations-size", sized, "a text of an observation is too long")
        name = one["ObservationName"]
        demand("observations-name", name in OBSERVED, f"{name[:64]!r} is none of {', '.join(OBSERVED)}")
    return tuple(listed)
