# SPDX-License-Identifier: Apache-2.0
"""Owns the shape of what `agent-supervisor extensions` shows; filled by the supervisor, read by the command. Data.

No setting and no key is in it: `thumbprint` names one.
"""

from typing import TypedDict

import msgspec

from supervisor.goal_state.adopted import Adopted, HandlerStatus, HandlerWord

# Of what an extension says of itself: an answer has room for some dozens of them.
MOST_WORDS = 1024


class LastResult(msgspec.Struct, frozen=True):
    """How a handler's last command ended: 0 or an error code of extensions.md 8, what was said, and when (wall time,
    seconds since 1970)."""

    verb: str
    code: int
    text: str
    ended: float


class ShownExtension(msgspec.Struct, frozen=True):
    """One handler, or one extension of a handler that has several: then `extension` is its name.

    `wanted` is what the goal state asks for (enabled, disabled, uninstall), empty where it names no such handler;
    `version` is the wanted one, or that which is here; `installed` the one that is here, empty for none, in `state`, as
    its HandlerState has it. `status`, `code` and `message` are what the host is told of the handler, `settings_status`,
    `settings_code` and `settings_message` what the extension says of itself; no status where it says nothing.

    `running` is the command under way, empty for none, since `since` (wall time, seconds since 1970). `slice` is
    systemd's name for all its processes, empty before there were any. `handler_class` is compat or contained, `why` the
    rule that says so."""

    handler: str
    version: str
    extension: str = ""
    wanted: str = ""
    sequence_number: int | None = None
    installed: str = ""
    state: str = ""
    status: HandlerWord = "NotReady"
    code: int = 0
    message: str = ""
    settings_status: str = ""
    settings_code: int = 0
    settings_message: str = ""
    running: str = ""
    since: float = 0.0
    last: LastResult | None = None
    handler_class: str = ""
    why: str = ""
    thumbprint: str = ""
    slice: str = ""

    @property
    def name(self) -> str:
        """As people call it."""
        return f"{self.handler}{f' ({self.extension})' if self.extension else ''}"


class OwnWords(TypedDict, total=False):
    """What an extension says of itself, by the names that ShownExtension has for it."""

    settings_status: str
    settings_code: int
    settings_message: str


def own_words(status: HandlerStatus | None) -> OwnWords:
    """Those of `status`; none where there is nothing to be told."""
    said = status.settings if status is not None else None
    if said is None:
        return {}
    return {"settings_status": said.status, "settings_code": said.code, "settings_message": said.message[:MOST_WORDS]}


def as_told(adopted: Adopted) -> tuple[ShownExtension, ...]:
    """What is shown where nothing is known of them but what the host is told."""
    wanted = {(plugin.name, plugin.version): plugin for plugin in adopted.goal_state.plugins}
    shown = []
    for each in adopted.handlers:
        plugin = wanted.get((each.name, each.version))
        settings = next((one for one in plugin.settings if each.extension in {"", one.name}), None) if plugin else None
        shown.append(
            ShownExtension(
                each.name,
                each.version,
                each.extension,
                wanted=plugin.state if plugin is not None else "",
                sequence_number=each.sequence_number,
                status=each.status,
                code=each.code,
                message=each.message,
                thumbprint=settings.thumbprint if settings is not None else "",
                **own_words(each),
            )
        )
    return tuple(shown)


class Leftover(msgspec.Struct, frozen=True):
    """Something of a handler's folder that can't go, aside at `path`; `why` is empty where nobody has tried yet."""

    path: str
    why: str = ""


class Shown(msgspec.Struct, frozen=True):
    """The answer. `trouble`: why this machine can run none, or what went wrong beyond a single handler. `logs` is the
    folder that has one of each handler. `leftovers` lie aside."""

    extensions: tuple[ShownExtension, ...] = ()
    trouble: str = ""
    logs: str = ""
    leftovers: tuple[Leftover, ...] = ()
