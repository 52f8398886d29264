# SPDX-License-Identifier: Apache-2.0
"""Owns what the host and others are told of an operation that was not let happen (extensions.md 3 and 4). Pure.

Runs in the supervisor; what it makes is written and sent by others.
"""

import time

import msgspec

from ipc.messages.extension_rules import HandlerVerb
from supervisor.extensions.ruling import CODES, Ruling
from supervisor.goal_state.adopted import HandlerStatus

SWITCHED_OFF = "Extensions.Enabled is n in the agent's configuration"


def switched_off(verb: HandlerVerb, ruling: Ruling) -> Ruling:
    """`ruling` as it is where Extensions.Enabled is n: nothing is carried out, whatever the policy says."""
    why = f"{verb} is not carried out: {SWITCHED_OFF}"
    return msgspec.structs.replace(ruling, allowed=False, why=why, code=CODES[verb])


def handler_status(
    handler: str, version: str, ruling: Ruling, sequence_number: int | None = None, extension: str = ""
) -> HandlerStatus:
    """The handler's status after a refusal: NotReady, with the code and the rule."""
    return HandlerStatus(handler, version, "NotReady", ruling.code, ruling.why, sequence_number, extension)


def status_file(name: str, verb: HandlerVerb, code: int, message: str, wall_s: float) -> bytes:
    """The status file of an extension that the agent writes in its place (extensions.md 9): an error.

    `name` is the extension's, or the handler's. Only an enable with settings has one."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(wall_s))
    status = {
        "name": name,
        "operation": verb,
        "status": "error",
        "code": code,
        "formattedMessage": {"lang": "en-US", "message": message},
    }
    return msgspec.json.encode([{"version": 1.0, "timestampUTC": when, "status": status}])
