# SPDX-License-Identifier: Apache-2.0
"""Owns the shape of what `agent-supervisor goal-state` shows; filled by the supervisor, read by the command. Pure.

No setting, no key and no SAS token is in it.
"""

from collections.abc import Sequence

import msgspec

from supervisor.goal_state.adopted import Adopted
from supervisor.goal_state.history import Entry


class Handler(msgspec.Struct, frozen=True):
    """One handler, or one extension of a handler that has several: what is wanted, and what is told of it."""

    name: str
    version: str
    wanted: str
    status: str
    code: int
    message: str
    sequence_number: int | None = None
    extension: str = ""


class InForce(msgspec.Struct, frozen=True):
    """The goal state in force. Times are wall time, seconds since 1970; `ended` is 0 until it has been carried out.

    `status_blob` is where the status goes, without the token; `code` is what the host is told: 0 all well."""

    id: str
    source: str
    incarnation: str
    etag: str
    created: str
    adopted: float
    ended: float
    code: int
    message: str
    outdated: bool
    on_hold: bool
    in_svd_sequence_number: str
    activity_id: str
    correlation_id: str
    status_blob: str
    required_features: tuple[str, ...]
    thumbprints: tuple[str, ...]


class Account(msgspec.Struct, frozen=True):
    """An account that the platform has asked for, until the wall time `ends`, seconds since 1970. `stage` is begun,
    made, ending, or missing: it is to be made, and is not yet."""

    name: str
    stage: str
    ends: float


class Shown(msgspec.Struct, frozen=True):
    """The answer. `in_force` is None before the first goal state; `trouble` is why the last poll failed, the
    `failed`-th in a row; `waits` which newer goal state is not in force yet, and for what."""

    in_force: InForce | None = None
    handlers: tuple[Handler, ...] = ()
    history: tuple[Entry, ...] = ()
    features: tuple[str, ...] = ()
    trouble: str = ""
    failed: int = 0
    waits: str = ""
    accounts: tuple[Account, ...] = ()


def in_force(adopted: Adopted) -> InForce:
    """What is shown of `adopted`."""
    goal_state, outcome = adopted.goal_state, adopted.outcome
    thumbprints = (each.thumbprint for plugin in goal_state.plugins for each in plugin.settings)
    return InForce(
        adopted.id,
        adopted.told_source,
        adopted.incarnation,
        adopted.etag,
        goal_state.created,
        adopted.adopted_s,
        outcome.ended_s if outcome is not None else 0.0,
        outcome.code if outcome is not None else 0,
        outcome.message if outcome is not None else "",
        adopted.is_outdated,
        adopted.is_on_hold,
        adopted.reported_sequence_number,
        goal_state.activity_id,
        goal_state.correlation_id,
        goal_state.status_blob.url.partition("?")[0],
        goal_state.required_features,
        tuple(dict.fromkeys(filter(None, thumbprints))),
    )


def handlers(adopted: Adopted) -> Sequence[Handler]:
    """What is shown of the handlers of `adopted`: where it came to nothing as a whole, of those that it names."""
    outcome = adopted.outcome
    if outcome is not None and outcome.code and not adopted.handlers:
        message = f"not carried out: {outcome.message}"
        plugins = adopted.goal_state.plugins
        return [Handler(each.name, each.version, each.state, "NotReady", outcome.code, message) for each in plugins]
    wanted = {(plugin.name, plugin.version): plugin.state for plugin in adopted.goal_state.plugins}
    return [
        Handler(
            each.name,
            each.version,
            wanted.get((each.name, each.version), ""),
            each.status,
            each.code,
            each.message,
            each.sequence_number,
            each.extension,
        )
        for each in adopted.handlers
    ]
