# SPDX-License-Identifier: Apache-2.0
"""Owns which operations the policy is asked about: by what the goal state wants, and what is there already. Pure.

Not by command: an update has a disable and an uninstall of the old version in it, and is an update all the same.
"""

from ipc.messages.extension_rules import HandlerVerb
from supervisor.extension_records import Purpose, Undertaking

VERBS: dict[Purpose, HandlerVerb] = {
    "enable": "enable",
    "disable": "disable",
    "disable-one": "disable",
    "uninstall": "uninstall",
}


def operations(undertaking: Undertaking) -> tuple[HandlerVerb, ...]:
    """All of which have to be allowed before it is begun."""
    verb = VERBS[undertaking.purpose]
    if verb != "enable" or undertaking.source == undertaking.target:
        return (verb,)
    return verb, "update" if undertaking.source else "install"
