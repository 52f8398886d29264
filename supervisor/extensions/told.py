# SPDX-License-Identifier: Apache-2.0
"""Owns what the host is told of a handler: what the agent knows of it and what it says of itself, as one. Pure.

What a handler says never hides that a command of its has failed, or that it was not allowed to run.
"""

import msgspec
from msgspec.structs import replace

from ipc.messages.extension_documents import ExtensionStatus, Heartbeat
from supervisor.goal_state.adopted import HandlerStatus, HandlerWord

# extensions.md 9. A handler whose heartbeat is older has stopped.
SILENT_S = 600.0
NO_HEARTBEAT = -1
WORDS: dict[str, HandlerWord] = {
    "ready": "Ready",
    "notready": "NotReady",
    "installing": "Installing",
    "unresponsive": "Unresponsive",
}
# What an extension says at its end; anything else is on its way.
TERMINAL = frozenset({"success", "error"})


class Found(msgspec.Struct, frozen=True):
    """What a handler has left for one extension. `status` is None where there is no status file yet.

    `beat` is None where none is wanted, or there is none to be had: then `no_beat` says why. It is `is_old` when it was
    written more than SILENT_S ago."""

    status: ExtensionStatus | None = None
    beat: Heartbeat | None = None
    is_old: bool = False
    no_beat: str = ""


NOTHING = Found()


def told(own: HandlerStatus, found: Found, *, is_allowed: bool = True) -> HandlerStatus:
    """`own`, which the agent knows, with what was `found` of an installed handler. `is_allowed` False: policy refuses
    it, and what lies there from before is not taken for an answer to these settings."""
    if own.sequence_number is not None and is_allowed:
        own = replace(own, settings=found.status or _awaited(own))
    return _with_heartbeat(own, found)


def _awaited(own: HandlerStatus) -> ExtensionStatus | None:
    """In place of a status file: on its way, unless the agent knows better."""
    if own.code or own.status == "Unresponsive":
        return None
    name = own.extension or own.name
    file = f"{own.extension}." if own.extension else ""
    text = f"no status file yet: {own.name}-{own.version}/status/{file}{own.sequence_number}.status is waited for"
    return ExtensionStatus(name, "", "", "transitioning", 0, text)


def _with_heartbeat(own: HandlerStatus, found: Found) -> HandlerStatus:
    beat = found.beat
    if own.status != "Ready":
        said = found.no_beat if beat is None else beat.message
        return replace(own, message=f"{own.message}; heartbeat: {said}") if said and own.code else own
    if found.no_beat:
        return replace(own, status="NotReady", code=NO_HEARTBEAT, message=found.no_beat)
    if beat is None:
        return own
    if found.is_old:
        text = f"heartbeat.log was not written for more than {SILENT_S:g} s; it says {beat.status}: {beat.message}"
        return replace(own, status="Unresponsive", code=NO_HEARTBEAT, message=text)
    status = WORDS.get(beat.status.replace(" ", "").lower())
    if status is None:
        text = f"the heartbeat's status is {beat.status!r}: expected one of {', '.join(WORDS.values())}"
        return replace(own, status="NotReady", code=NO_HEARTBEAT, message=f"{text}; {beat.message}")
    return replace(own, status=status, code=beat.code, message=beat.message)
