# SPDX-License-Identifier: Apache-2.0
"""Owns how the demo looks: headings, lines, checks and a verdict; colours on a terminal only."""

import os
import textwrap
from typing import TextIO

BOLD, GREEN, RED, DIM, PLAIN = "\x1b[1m", "\x1b[32m", "\x1b[31m", "\x1b[2m", "\x1b[0m"
WIDTH = 118


class Page:
    """Writes to `out` and counts what was wrong."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._colours = out.isatty() and "NO_COLOR" not in os.environ
        self._checks = 0
        self._wrong: list[str] = []

    def heading(self, text: str) -> None:
        """A new part."""
        self._write(f"\n{self._in(BOLD, text)}")

    def line(self, text: str) -> None:
        """One line, wrapped where it is too long."""
        for number, part in enumerate(textwrap.wrap(text, WIDTH, drop_whitespace=False) or [""]):
            self._write(f"  {'  ' if number else ''}{part}")

    def text(self, text: str) -> None:
        """Lines as they are."""
        self._write(textwrap.indent(text.rstrip("\n"), "  "))

    def check(self, what: str, right: bool, found: str) -> bool:
        """One thing checked; returns whether it was right."""
        self._checks += 1
        if not right:
            self._wrong.append(what)
        mark = self._in(GREEN, "ok   ") if right else self._in(RED, "WRONG")
        self._write(f"  {mark}  {what:34}  {found}".rstrip())
        return right

    def verdict(self) -> int:
        """The last line; the exit status."""
        if self._wrong:
            self._write(f"\n{self._in(RED, 'WRONG')}: {len(self._wrong)} of {self._checks}: {', '.join(self._wrong)}")
            return 1
        self._write(f"\n{self._in(GREEN, 'All right')}: {self._checks} checks")
        return 0

    def _in(self, colour: str, text: str) -> str:
        return f"{colour}{text}{PLAIN}" if self._colours else text

    def _write(self, text: str) -> None:
        print(text, file=self._out, flush=True)
