# SPDX-License-Identifier: Apache-2.0
"""Owns the variables that a handler's command is given, beside those that every program has (extensions.md 8.1). Pure.

None of the agent's own environment is in it.
"""

from collections.abc import Mapping

import msgspec

from supervisor.extension_records import NEVER_RAN, End, Undertaking
from supervisor.extensions.next_step import Command

PREFIX = "AZURE_GUEST_AGENT_"
FEATURES = msgspec.json.encode([{"Key": "ExtensionTelemetryPipeline", "Value": "1.0"}]).decode()


def environment(
    command: Command, under_way: Undertaking, ends: Mapping[str, End], base: str, host: str
) -> tuple[tuple[str, str], ...]:
    """For `command`, a step of `under_way`; `ends` are those of the handler's life, `base` is the folder that it is
    run from, `host` the WireServer's address."""
    told = {
        f"{PREFIX}EXTENSION_PATH": base,
        f"{PREFIX}EXTENSION_VERSION": command.version,
        f"{PREFIX}WIRE_PROTOCOL_ADDRESS": host,
        f"{PREFIX}EXTENSION_SUPPORTED_FEATURES": FEATURES,
        "ConfigSequenceNumber": str(sequence_number(command, under_way, ends) or 0),
    }
    if command.extension and under_way.is_multi_config:
        told["ConfigExtensionName"] = command.extension
    if command.verb in ("install", "enable"):
        told[f"{PREFIX}UNINSTALL_CMD_EXIT_CODE"] = _exit_text(under_way, "uninstall")
    if command.verb == "update":
        told["VERSION"] = under_way.target
        # Also where the old version makes itself of the new one: the reference tells it the new one's twice.
        told[f"{PREFIX}UPDATING_FROM_VERSION"] = under_way.source
        told.update(_disabled(under_way))
    return tuple(told.items())


def sequence_number(command: Command, under_way: Undertaking, ends: Mapping[str, End]) -> int | None:
    """That of the settings which the command finds in its folder; None where there are none."""
    before = ends.get(command.extension)
    if command.verb == "disable" and before is not None:
        return before.sequence_number
    return under_way.sequence_number


def _disabled(under_way: Undertaking) -> dict[str, str]:
    if not under_way.is_multi_config:
        return {f"{PREFIX}DISABLE_CMD_EXIT_CODE": _exit_text(under_way, "disable")}
    told = [{"extensionName": name, "exitCode": _exit_text(under_way, "disable", name)} for name in under_way.disables]
    return {f"{PREFIX}DISABLE_CMD_EXIT_CODES_MULTIPLE_EXTENSIONS": msgspec.json.encode(told).decode()}


def _exit_text(under_way: Undertaking, verb: str, extension: str | None = None) -> str:
    """How the command of the former version has ended, of one extension or of the last one."""
    ended = (
        run.exit_text
        for run in reversed(under_way.runs)
        if run.verb == verb and run.version == under_way.source and (extension is None or run.extension == extension)
    )
    return next(ended, NEVER_RAN)
