# SPDX-License-Identifier: Apache-2.0
"""Owns the decision which goal state is to be in force: the WireServer's or the HostGAPlugin's (hostga-plugin.md 6).

Pure. Timestamps have one form and one length, so they are compared as text.
"""

from collections.abc import Collection

from ipc.messages import ExtensionsGoalState
from supervisor.goal_state.adopted import Adopted


def choose(
    current: Adopted | None, wire: Adopted | None, settings: Adopted | None, *, settings_are_new: bool
) -> Adopted | None:
    """The one to be adopted, None to keep `current`.

    `wire` is what the WireServer has sent anew, None if nothing. `settings` is what the HostGAPlugin has, new or not;
    None where that has nothing to say. The later one wins, of two equals the WireServer's; an older one of one source
    never replaces a newer one of the other. What a source itself sends in the place of its last counts, whatever time
    it carries: a host whose clock was a year ahead would be deaf to itself for a year after it was set right."""
    candidate = wire or (settings if settings_are_new else None)
    if wire is not None and settings is not None and _created(settings) > _created(wire):
        candidate = settings
    if candidate is None or current is None or _is_of_plugin(candidate) == _is_of_plugin(current):
        return candidate
    return candidate if _created(candidate) >= _created(current) else None


def is_outdated(created: str, fast_track: str, *, settings_count: bool) -> bool:
    """Whether a goal state of the WireServer, `created` then, is older than the last one by FastTrack, of `fast_track`
    (empty: there was none). With `settings_count` the HostGAPlugin speaks for itself, and nothing is outdated."""
    return not settings_count and created < fast_track


def unknown_thumbprints(goal_state: ExtensionsGoalState, known: Collection[str]) -> tuple[str, ...]:
    """The certificates that protected settings are for and that nobody has sent, each once, in order of appearance."""
    named = (each.thumbprint for plugin in goal_state.plugins for each in plugin.settings)
    return tuple(dict.fromkeys(thumbprint for thumbprint in named if thumbprint and thumbprint not in known))


def unsupported(goal_state: ExtensionsGoalState, supported: Collection[str]) -> tuple[str, ...]:
    """The features that it requires and that this agent does not tell to have."""
    return tuple(dict.fromkeys(name for name in goal_state.required_features if name not in supported))


def _is_of_plugin(adopted: Adopted) -> bool:
    return bool(adopted.etag)


def _created(adopted: Adopted) -> str:
    return adopted.goal_state.created
