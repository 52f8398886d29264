# SPDX-License-Identifier: Apache-2.0
"""Owns the strict reading of the status that an agent uploads (wire-protocol.md 13).

Runs in test processes. It knows the form alone.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from tests.fabric.wire_book import Trial

MOST_STATUS_BYTES = 4 * 1024 * 1024
Check = Callable[[Any, str, Trial], None]
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def read_status(content: bytes, trial: Trial | None = None) -> dict[str, Any]:
    """The status in `content`. Raises Refusal for anything but the exact form."""
    trial = trial or Trial()
    small = len(content) <= MOST_STATUS_BYTES
    trial.demand("status-size", small, f"a status of {len(content)} bytes")
    try:
        status = json.loads(content)
    except ValueError:
        status = None
    trial.demand("status-json", isinstance(status, dict), "the status is no JSON object")
    _STATUS(status, "status", trial)
    found: dict[str, Any] = status
    return found


def _object(needed: Mapping[str, Check], more: Mapping[str, Check] | None = None) -> Check:
    known = {**needed, **(more or {})}

    def check(value: Any, where: str, trial: Trial) -> None:
        trial.demand("status-form", isinstance(value, dict), f"{where} is no object")
        missing, unknown = sorted(needed.keys() - value.keys()), sorted(value.keys() - known.keys())
        trial.demand("status-form", not missing, f"{where} lacks {', '.join(missing)}")
        trial.demand("status-form", not unknown, f"{where} has {', '.join(unknown)[:80]}")
        for name, one in value.items():
            known[name](one, f"{where}.{name}", trial)

    return check


def _each(check: Check) -> Check:
    def check_all(value: Any, where: str, trial: Trial) -> None:
        trial.demand("status-form", isinstance(value, list), f"{where} is no list")
        for at, one in enumerate(value):
            check(one, f"{where}[{at}]", trial)

    return check_all


def _value(holds: Callable[[Any], bool], what: str) -> Check:
    def check(value: Any, where: str, trial: Trial) -> None:
        trial.demand("status-values", holds(value), f"{where} is {str(value)[:60]!r}, which is not {what}")

    return check


def _one_of(*words: object) -> Check:
    return _value(lambda value: any(value == word and type(value) is type(word) for word in words), f"one of {words}")


_TEXT = _value(lambda value: isinstance(value, str), "a text")
_NAME = _value(lambda value: isinstance(value, str) and bool(value), "a text that says something")
_NUMBER = _value(lambda value: isinstance(value, int) and not isinstance(value, bool), "a whole number")
_WHEN = _value(lambda value: isinstance(value, str) and _TIME.fullmatch(value) is not None, "a time in UTC")
_ANY = _value(lambda _: True, "anything")
_SEQUENCE = _value(lambda value: isinstance(value, int) or str(value).isdigit(), "a sequence number")
_VERSION = _value(lambda value: re.fullmatch(r"\d+(\.\d+){1,3}", str(value)) is not None, "a version")
_MESSAGE = _object({"lang": _NAME, "message": _TEXT})
_SUB_STATUS = _object({"name": _TEXT, "status": _TEXT}, {"code": _ANY, "formattedMessage": _MESSAGE})
_EXTENSION_STATUS = _object(
    {
        "name": _TEXT,
        "configurationAppliedTime": _ANY,
        "operation": _ANY,
        "status": _one_of("transitioning", "warning", "error", "success"),
        "code": _NUMBER,
        "formattedMessage": _MESSAGE,
    },
    {"substatus": _each(_SUB_STATUS)},
)
_SETTINGS_STATUS = _object({"version": _one_of(1.0), "timestampUTC": _WHEN, "status": _EXTENSION_STATUS})
_HANDLER = _object(
    {
        "handlerVersion": _VERSION,
        "handlerName": _NAME,
        "status": _one_of("Ready", "NotReady", "Installing", "Unresponsive"),
        "code": _NUMBER,
        "useExactVersion": _one_of(True),
    },
    {
        "formattedMessage": _MESSAGE,
        "runtimeSettingsStatus": _object(
            {"sequenceNumber": _NUMBER, "settingsStatus": _SETTINGS_STATUS}, {"extensionName": _NAME}
        ),
    },
)
_UPDATE = _object(
    {
        "expectedVersion": _VERSION,
        "status": _one_of("Success", "Transitioning", "Error", "Unknown"),
        "code": _one_of(0, 1),
        "formattedMessage": _MESSAGE,
    }
)
_AGENT = _object(
    {"version": _VERSION, "status": _one_of("Ready"), "formattedMessage": _MESSAGE}, {"updateStatus": _UPDATE}
)
_GOAL_STATE = _object(
    {
        "formattedMessage": _MESSAGE,
        "timestampUTC": _WHEN,
        "inSvdSeqNo": _SEQUENCE,
        "status": _one_of("Success", "Failed"),
        "code": _NUMBER,
    }
)
_STATUS = _object(
    {
        "version": _one_of("1.1"),
        "timestampUTC": _WHEN,
        "aggregateStatus": _object(
            {"guestAgentStatus": _AGENT, "handlerAggregateStatus": _each(_HANDLER)},
            {"vmArtifactsAggregateStatus": _object({"goalStateAggregateStatus": _GOAL_STATE})},
        ),
        "guestOSInfo": _object({"computerName": _TEXT, "osName": _TEXT, "osVersion": _TEXT, "version": _VERSION}),
    },
    {"supportedFeatures": _each(_object({"Key": _NAME, "Value": _NAME}))},
)
