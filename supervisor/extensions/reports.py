# SPDX-License-Identifier: Apache-2.0
"""Owns what is told of the goal state's handlers: to the host, to the command, and to whoever reads their folders.

Runs in the supervisor. What the agent knows of a handler and what that has left for the host become one here.
"""

from collections.abc import Callable, Mapping

import msgspec
from msgspec.structs import replace

from ipc.messages import HandlerManifest
from policy.extensions import slice_of
from supervisor.extension_records import Extensions, Life
from supervisor.extensions import naming
from supervisor.extensions.commands import Commands, Running
from supervisor.extensions.files import HandlerFiles, Unwritten
from supervisor.extensions.next_step import OTHER
from supervisor.extensions.ordering import ENABLED, Item
from supervisor.extensions.procedure import Outcome
from supervisor.extensions.refused import status_file
from supervisor.extensions.ruling import Ruling
from supervisor.extensions.shown import LastResult, ShownExtension, own_words
from supervisor.extensions.status_files import Place, StatusFiles
from supervisor.extensions.told import NOTHING, told
from supervisor.goal_state.adopted import HandlerStatus, HandlerWord
from supervisor.loop import Loop

# As the reference has them: there are tools that look for these.
WORDS: dict[str, tuple[HandlerWord, str]] = {
    "enable": ("Ready", "Plugin enabled"),
    "disable": ("NotReady", "Plugin disabled"),
}
WELL = "went well"
Key = tuple[str, str]


class Facts(msgspec.Struct, frozen=True):
    """Where it is known from: `extensions` gives the journal's part, `manifest` that of an installed version, as far as
    it was needed already, `rule` the ruling on a handler's enable."""

    loop: Loop
    extensions: Callable[[], Extensions]
    manifest: Callable[[str, str], HandlerManifest | None]
    rule: Callable[[str, str], Ruling]
    commands: Commands
    files: HandlerFiles
    status_files: StatusFiles
    say: Callable[[str, str, str], None]


class Reports:
    """One for each extension of the goal state in force. `on_change` is called whenever another thing is told."""

    def __init__(self, facts: Facts) -> None:
        self.on_change: Callable[[], None] = lambda: None
        self._ = facts
        self._items: dict[Key, Item] = {}
        self._own: dict[Key, HandlerStatus] = {}
        self._refused: set[Key] = set()
        # What was said of each that went wrong, until it is another thing.
        self._said: dict[Key, str] = {}
        facts.status_files.on_change = self._changed

    def take(self, items: list[Item], goal_state: str) -> None:
        """These are to be told of from now on; of those that are here what was told stays until there is more.
        `goal_state` is by which the journal knows it."""
        self._items = {_key(item): item for item in items}
        self._said = {key: said for key, said in self._said.items() if key in self._items}
        was, self._own = self._own, {}
        for key, item in self._items.items():
            if key in was:
                self._own[key] = was[key]
            elif item.kind == "enable":
                self._own[key] = self._first(item, goal_state)
        self._refused.clear()
        self._watch()

    def at(self, item: Item, version: str, sentence: str) -> None:
        """What is being done with it. One that is ready stays so while it is enabled anew."""
        was = self._own.get(_key(item))
        if item.kind != "enable":
            return
        if was is not None and was.status == "Ready" and was.version == version:
            self._put(item, replace(was, sequence_number=item.sequence_number))
        else:
            self._put(item, _status(item, version, "Installing", 0, sentence))

    def ended(self, item: Item, outcome: Outcome) -> None:
        """How its turn has ended."""
        self._say(item, outcome)
        life = self._.extensions().of(item.plugin.name)
        (self._refused.add if outcome.is_refused else self._refused.discard)(_key(item))
        if outcome.code:
            if item.kind == "enable" and item.settings is not None and life.version:
                self._write_in_its_place(item, life.version, outcome)
            self._put(item, _status(item, item.plugin.version, "NotReady", outcome.code, outcome.message))
        elif item.kind in WORDS and life.version:
            word, text = WORDS[item.kind]
            self._put(item, _status(item, life.version, word, 0, text))
        else:
            self._own.pop(_key(item), None)
            self._watch()
            self.on_change()

    def handlers(self) -> tuple[HandlerStatus, ...]:
        """What the host is told."""
        return tuple(self._told(key, own) for key, own in self._own.items())

    def shown(self) -> tuple[ShownExtension, ...]:
        """What the command shows."""
        running = {(each.order.handler, each.order.extension): each for each in self._.commands.running()}
        return tuple(self._shown(key, item, running) for key, item in self._items.items())

    def found(self, item: Item) -> str:
        """The status that the extension has left for the goal state's settings; empty for none."""
        place = self._place(_key(item), item.sequence_number)
        status = self._.status_files.found(place).status if place is not None else None
        return status.status if status is not None else ""

    def _first(self, item: Item, goal_state: str) -> HandlerStatus:
        """By what the journal knows from before."""
        life = self._.extensions().of(item.plugin.name)
        end = life.ends.get(item.extension)
        if end is not None and end.goal_state == goal_state and end.code:
            return _status(item, item.plugin.version, "NotReady", end.code, end.message)
        if end is not None and item.extension in life.enabled:
            word, text = WORDS["enable"]
            return replace(_status(item, life.version, word, 0, text), sequence_number=end.sequence_number)
        return _status(item, item.plugin.version, "Installing", 0, "its turn is to come")

    def _changed(self) -> None:
        self.on_change()

    def _told(self, key: Key, own: HandlerStatus) -> HandlerStatus:
        place = self._place(key, own.sequence_number)
        found = self._.status_files.found(place) if place is not None else NOTHING
        return told(own, found, is_allowed=key not in self._refused)

    def _place(self, key: Key, sequence_number: int | None) -> Place | None:
        """Where it leaves its status; None for one that is not installed."""
        handler, extension = key
        version = self._.extensions().of(handler).version
        if not version:
            return None
        manifest = self._.manifest(handler, version)
        has_heartbeat = manifest is not None and manifest.reports_heartbeat
        return Place(handler, version, extension, sequence_number, has_heartbeat)

    def _watch(self) -> None:
        places = [self._place(key, own.sequence_number) for key, own in self._own.items()]
        self._.status_files.watch([place for place in places if place is not None])

    def _put(self, item: Item, status: HandlerStatus) -> None:
        key = _key(item)
        if self._own.get(key) == status:
            return
        self._own[key] = status
        self._watch()
        version = self._.extensions().of(key[0]).version
        if version:
            try:
                folder = naming.folder_name(key[0], version)
                self._.files.write_told(folder, status, has_several=item.plugin.is_multi_config)
            except Unwritten as error:
                self._.say("warning", "extensions", str(error))
        self.on_change()

    def _say(self, item: Item, outcome: Outcome) -> None:
        """What went wrong, once for each."""
        if self._said.get(_key(item), "") != outcome.message:
            self._said[_key(item)] = outcome.message
            if outcome.code:
                self._.say("warning", "extensions", f"{item.name}: {outcome.message}")

    def _write_in_its_place(self, item: Item, version: str, outcome: Outcome) -> None:
        """Its status file, as others read it (extensions.md 3 and 4): where policy refuses it, and, of a handler with
        several extensions, where it came to nothing and has said nothing itself."""
        is_forbidden = outcome.is_refused and outcome.code != OTHER
        if not is_forbidden and (outcome.again or not item.extension):
            return
        name = f"{item.plugin.name}.{item.extension}" if item.extension else item.plugin.name
        content = status_file(name, "enable", outcome.code, outcome.message, self._.loop.clock.wall())
        folder = naming.folder_name(item.plugin.name, version)
        try:
            self._.files.write_status(folder, item.extension, item.sequence_number, content, if_absent=not is_forbidden)
        except Unwritten as error:
            self._.say("warning", "extensions", str(error))

    def _shown(self, key: Key, item: Item, running: Mapping[Key, Running]) -> ShownExtension:
        handler, extension = key
        life = self._.extensions().of(handler)
        version = life.version or item.plugin.version
        status = next((self._told(key, own) for each, own in self._own.items() if each == key), None)
        now = running.get(key) or running.get((handler, ""))
        ruling, last = self._.rule(handler, version), _last(life, extension)
        clock = self._.loop.clock
        return ShownExtension(
            handler,
            version,
            extension,
            wanted=ENABLED if item.kind == "enable" else "uninstall" if item.kind == "uninstall" else "disabled",
            sequence_number=item.sequence_number,
            installed=life.version,
            state="" if not life.version else "Enabled" if extension in life.enabled else "Installed",
            status=status.status if status is not None else "NotReady",
            code=status.code if status is not None else 0,
            message=status.message if status is not None else "",
            running=now.order.verb if now is not None else "",
            since=clock.wall() - (clock.monotonic() - now.since_s) if now is not None else 0.0,
            last=last,
            handler_class=ruling.handler_class,
            why=ruling.why or ruling.class_why,
            thumbprint=item.thumbprint,
            slice=slice_of(handler) if last is not None or life.version or now is not None else "",
            **own_words(status),
        )


def _key(item: Item) -> Key:
    return item.plugin.name, item.extension


def _last(life: Life, extension: str) -> LastResult | None:
    """How the last command for it has ended, by the journal alone: an earlier process may have seen it."""
    runs = life.undertaking.runs if life.undertaking is not None else ()
    run = next((run for run in reversed(runs) if run.ended and run.extension in {"", extension}), None)
    if run is not None:
        return LastResult(run.verb, run.code, run.message or WELL, run.at)
    end = life.ends.get(extension)
    if end is None or end.last is None:
        return None
    # One that may fail has its words in the handler's own log alone.
    text = WELL if not end.last.code else end.message if end.code else "it went on all the same"
    return LastResult(end.last.verb, end.last.code, text, end.last.at)


def _status(item: Item, version: str, word: HandlerWord, code: int, message: str) -> HandlerStatus:
    handler, extension = _key(item)
    return HandlerStatus(handler, version, word, code, message, item.sequence_number, extension)
