# SPDX-License-Identifier: Apache-2.0
"""Owns `agent-supervisor ps`: asks the agent for its processes and shows them, once or again and again."""

import argparse
import shutil
import signal
import sys
import time

import msgspec

from supervisor.cli import table
from supervisor.cli.client import add_socket_option, ask, why_silent
from supervisor.cli.measure import Usage, usage
from supervisor.status import Snapshot
from supervisor.verbs import PS

REDRAW_S = 2.0
# Of a terminal: home; end of line; rest of the screen; the cursor away and back.
HOME, END_OF_LINE, REST, CLEAR = "\x1b[H", "\x1b[K", "\x1b[J", "\x1b[2J"
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


class _Seen(msgspec.Struct, frozen=True):
    snapshot: Snapshot
    usages: dict[int, Usage]
    cut: bool


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--watch", action="store_true", help=f"show it anew every {REDRAW_S:g} s, until Ctrl-C")
    add_socket_option(parser)
    parser.set_defaults(carry_out=carry_out)


def carry_out(options: argparse.Namespace) -> int:
    """Show the processes. Raises as `client.ask` does, when watching only for the first look."""
    seen = _look(options.socket)
    if not options.watch:
        _print(seen, as_json=options.json)
        return 0
    # An end by SIGTERM gives the terminal its cursor back as well.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    on_screen = sys.stdout.isatty() and not options.json
    try:
        if on_screen:
            sys.stdout.write(HIDE + CLEAR)
        _watch(options, seen, on_screen=on_screen)
    except KeyboardInterrupt:
        pass
    finally:
        if on_screen:
            sys.stdout.write(SHOW)
            sys.stdout.flush()
    return 0


def _watch(options: argparse.Namespace, seen: _Seen | None, *, on_screen: bool) -> None:
    silence = ""
    while True:
        if on_screen:
            _draw(seen, silence)
        elif seen is not None:
            _print(seen, as_json=options.json)
            sys.stdout.write("" if options.json else "\n")
        else:
            print(f"agent-supervisor: {silence}", file=sys.stderr)
        sys.stdout.flush()
        time.sleep(REDRAW_S)
        try:
            seen = _look(options.socket)
        except (OSError, ValueError) as error:
            # It may be starting again: that is what watching is for.
            seen, silence = None, why_silent(error)


def _look(path: str) -> _Seen:
    answer = ask(path, PS)
    snapshot = msgspec.json.decode(answer.data, type=Snapshot)
    return _Seen(snapshot, {row.pid: usage(row.pid) for row in snapshot.processes}, answer.cut)


def _print(seen: _Seen, *, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(_as_data(seen)).decode())
    else:
        width = shutil.get_terminal_size((120, 24)).columns
        print("\n".join(table.lines(seen.snapshot, seen.usages, width, cut=seen.cut)))


def _draw(seen: _Seen | None, silence: str) -> None:
    """One whole picture in one write over the last one: nothing is wiped that is not at once written again."""
    width, height = shutil.get_terminal_size((120, 24))
    if seen is None:
        shown = [f"{silence}; trying again"]
    else:
        shown = table.lines(seen.snapshot, seen.usages, width, cut=seen.cut)
    picture = f"{END_OF_LINE}\n".join(line[:width] for line in shown[: height - 1])
    sys.stdout.write(f"{HOME}{picture}{END_OF_LINE}{REST}")


def _as_data(seen: _Seen) -> dict[str, object]:
    """The agent's own answer, each process with what was measured here."""
    rows = [
        {**msgspec.to_builtins(row), **msgspec.to_builtins(seen.usages[row.pid])} for row in seen.snapshot.processes
    ]
    return {"overview": msgspec.to_builtins(seen.snapshot.overview), "processes": rows, "cut": seen.cut}
