# SPDX-License-Identifier: Apache-2.0
"""Owns how a command shows what it has seen: once, or anew every other second until it is ended."""

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

from supervisor.cli.client import why_silent

REDRAW_S = 2.0
# Of a terminal: home; end of line; rest of the screen; the cursor away and back.
HOME, END_OF_LINE, REST, CLEAR = "\x1b[H", "\x1b[K", "\x1b[J", "\x1b[2J"
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"

Seen = TypeVar("Seen")


def add_options(parser: argparse.ArgumentParser) -> None:
    """`--json` and `--watch`."""
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument("--watch", action="store_true", help=f"show it anew every {REDRAW_S:g} s, until Ctrl-C")


class Showing(Generic[Seen]):
    """One command's way: `look` asks, and raises as `client.ask` does; `lines` makes text of what was seen, for a
    terminal of so many columns; `data` makes plain data of it."""

    def __init__(
        self, look: Callable[[], Seen], lines: Callable[[Seen, int], list[str]], data: Callable[[Seen], object]
    ) -> None:
        self._look = look
        self._lines = lines
        self._data = data

    def show(self, options: argparse.Namespace) -> int:
        """By `options` (see add_options). Raises as `look` does, when watching only for the first look."""
        seen = self._look()
        if not options.watch:
            self._print(seen, as_json=options.json)
            return 0
        # An end by SIGTERM gives the terminal its cursor back as well.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        on_screen = sys.stdout.isatty() and not options.json
        try:
            if on_screen:
                sys.stdout.write(HIDE + CLEAR)
            self._watch(seen, as_json=options.json, on_screen=on_screen)
        except KeyboardInterrupt:
            pass
        finally:
            if on_screen:
                sys.stdout.write(SHOW)
                sys.stdout.flush()
        return 0

    def _watch(self, first: Seen, *, as_json: bool, on_screen: bool) -> None:
        seen: Seen | None = first
        silence = ""
        while True:
            if on_screen:
                self._draw(seen, silence)
            elif seen is not None:
                self._print(seen, as_json=as_json)
                sys.stdout.write("" if as_json else "\n")
            else:
                print(f"agent-supervisor: {silence}", file=sys.stderr)
            sys.stdout.flush()
            time.sleep(REDRAW_S)
            try:
                seen = self._look()
            except (OSError, ValueError) as error:
                # It may be starting again: that is what watching is for.
                seen, silence = None, why_silent(error)

    def _print(self, seen: Seen, *, as_json: bool) -> None:
        if as_json:
            print(msgspec.json.encode(self._data(seen)).decode())
        else:
            print("\n".join(self._lines(seen, shutil.get_terminal_size((120, 24)).columns)))

    def _draw(self, seen: Seen | None, silence: str) -> None:
        """One whole picture in one write over the last one: nothing is wiped that is not at once written again."""
        width, height = shutil.get_terminal_size((120, 24))
        shown = [f"{silence}; trying again"] if seen is None else self._lines(seen, width)
        picture = f"{END_OF_LINE}\n".join(line[:width] for line in shown[: height - 1])
        sys.stdout.write(f"{HOME}{picture}{END_OF_LINE}{REST}")
