# SPDX-License-Identifier: Apache-2.0
"""Owns `agent-supervisor extensions`: which this VM is to have and has, what runs of them, and what came of it."""

import argparse
import time

import msgspec
from msgspec.structs import replace

from supervisor.cli import extension_log, watching
from supervisor.cli.client import add_socket_option, ask
from supervisor.cli.printable import in_one_line, printable
from supervisor.cli.slice_usage import SliceUsage, slice_usage
from supervisor.cli.table import Column, duration, grid, mib, wrapped
from supervisor.extensions.shown import Leftover, Shown, ShownExtension
from supervisor.verbs import EXTENSIONS

EPILOG = """\
WANTED: by the goal state in force. STATE: as the handler's HandlerState has it, or removed. STATUS: what the host is
told of the handler, and what the extension says of itself. RUNNING: the command under way. LAST: how the last one
ended: 0, or an error code. KEY: the beginning of the thumbprint of the key that its protected settings are for.
PROCESSES, MEMORY and CPU are those of its slice: its commands, and what they have left running.
Below: what a cell has no room for, and what is left over of folders that were to go, with the reason.
"""
COLUMNS: tuple[Column, ...] = (
    ("NAME", "<", 0),
    ("VERSION", "<", 0),
    ("WANTED", "<", 6),
    ("STATE", "<", 5),
    ("STATUS", "<", 0),
    ("RUNNING", "<", 0),
    ("LAST", "<", 7),
    ("CLASS", "<", 4),
    ("KEY", "<", 1),
    ("PROCESSES", ">", 2),
    ("MEMORY", ">", 8),
    ("CPU", ">", 3),
)
LONGEST_CELL = 60


class Seen(msgspec.Struct, frozen=True):
    """The agent's answer at the wall time `at` (seconds since 1970), and what was measured, by slice."""

    shown: Shown
    usages: dict[str, SliceUsage]
    cut: bool
    at: float


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    watching.add_options(parser)
    add_socket_option(parser)
    parser.set_defaults(carry_out=carry_out)
    actions = parser.add_subparsers(metavar="ACTION", required=False)
    text = "print the log of a handler's commands"
    extension_log.configure(actions.add_parser("logs", help=text, description=text))


def carry_out(options: argparse.Namespace) -> int:
    """Show them. Raises as `client.ask` does, when watching only for the first look."""
    return watching.Showing(lambda: _look(options.socket), lines, _as_data).show(options)


def _look(path: str) -> Seen:
    answer = ask(path, EXTENSIONS)
    shown = msgspec.json.decode(answer.data, type=Shown)
    shown = replace(shown, extensions=tuple(_with_state(each) for each in shown.extensions))
    slices = {each.slice for each in shown.extensions if each.slice}
    return Seen(shown, {name: slice_usage(name) for name in slices}, answer.cut, time.time())


def _with_state(one: ShownExtension) -> ShownExtension:
    """One that was to go, and is no longer here, has no HandlerState that could say so."""
    is_gone = one.wanted == "uninstall" and not one.installed and not one.running
    return replace(one, state="removed") if is_gone else one


def lines(seen: Seen, width: int) -> list[str]:
    """What to print, each line at most `width` columns wide."""
    extensions = seen.shown.extensions
    rows = [_cells(each, seen.usages.get(each.slice, SliceUsage()), seen.at) for each in extensions]
    text = grid(COLUMNS, rows, width) if rows else ["extensions: none"]
    told = [sentence for each in extensions for sentence in _sentences(each, seen.shown.trouble)]
    told += [f"trouble: {seen.shown.trouble}"] if seen.shown.trouble else []
    told += [_left(each) for each in seen.shown.leftovers]
    told += ["The list is longer than one answer may be; the rest is left out."] if seen.cut else []
    text += ["", *(part for each in told for part in wrapped(in_one_line(each), width))] if told else []
    return [line[:width].rstrip() for line in text]


def _cells(one: ShownExtension, used: SliceUsage, now: float) -> list[str]:
    replaced = f" ({one.installed} is here)" if one.installed not in {"", one.version} else ""
    last = one.last
    cells = [
        one.name,
        f"{one.version}{replaced}",
        one.wanted or "-",
        one.state or "-",
        f"{one.status}{f', {one.settings_status}' if one.settings_status else ''}",
        f"{one.running} {duration(now - one.since)}" if one.running else "-",
        f"{last.verb} {last.code}, {duration(now - last.ended)} ago" if last is not None else "-",
        one.handler_class or "-",
        one.thumbprint[:8] or "-",
        str(len(used.pids)) if one.slice else "-",
        mib(used.memory_bytes),
        "-" if used.cpu_s is None else f"{used.cpu_s:.2f}s",
    ]
    return [printable(cell)[:LONGEST_CELL] for cell in cells]


def _sentences(one: ShownExtension, trouble: str) -> list[str]:
    """What a cell has no room for, and `trouble`, which is told once for all, does not say."""
    if one.message and trouble.endswith(one.message.removeprefix("not carried out: ")):
        return []
    told = [f"{one.name}: {one.status}, code {one.code}: {one.message}"] if one.message else []
    if one.settings_status not in {"", "success"}:
        told += [f"{one.name} says: {one.settings_status}, code {one.settings_code}: {one.settings_message}"]
    if one.last is not None and one.last.code and one.last.text not in one.message:
        told += [f"{one.name}: {one.last.verb} ended with {one.last.code}: {one.last.text}"]
    return told


def _left(one: Leftover) -> str:
    why = one.why or "it is tried with the next goal state"
    return f"left over: {one.path}, of a handler's folder that was removed or replaced: {why}"


def _as_data(seen: Seen) -> dict[str, object]:
    """The agent's own answer, each extension with what was measured here."""
    rows = [
        {**msgspec.to_builtins(each), **msgspec.to_builtins(seen.usages.get(each.slice, SliceUsage()))}
        for each in seen.shown.extensions
    ]
    return {**msgspec.to_builtins(seen.shown), "extensions": rows, "cut": seen.cut}
