# SPDX-License-Identifier: Apache-2.0
"""Owns on which lines of an override file its rules about extensions stand, and each of their keys.

Pure; for the command line. It reads no TOML: who asks has read the file, and knows how many rules are in it.
"""

import re

import msgspec

_TABLE = re.compile(r"\s*\[\[\s*extensions\s*\]\]\s*(#.*)?")
_PART = re.compile(r"\s*\[\s*extensions\s*\.\s*([a-z_]+)\s*\]\s*(#.*)?")
_OTHER = re.compile(r"\s*\[.*\]\s*(#.*)?")
_KEY = re.compile(r"\s*\"?([a-z_]+)\"?\s*[.=]")
_LONG_TEXT = ('"""', "'''")


class RuleLines(msgspec.Struct, frozen=True):
    """Of one table: the line that it begins on, and that of each of its keys, counted from 1."""

    first: int
    keys: dict[str, int]


def rule_lines(text: str, count: int) -> list[RuleLines] | None:
    """Of the `count` tables in the file; None where they are written in a way that is not looked for."""
    found: list[RuleLines] = []
    inside, part, quote = False, "", ""
    for number, line in enumerate(text.splitlines(), 1):
        is_text, quote = bool(quote), _open_quote(line, quote)
        if is_text:
            continue
        if _TABLE.fullmatch(line):
            inside, part = True, ""
            found.append(RuleLines(number, {}))
        elif inside and (named := _PART.fullmatch(line)):
            part = named[1]
            found[-1].keys.setdefault(part, number)
        elif _OTHER.fullmatch(line):
            inside = False
        elif inside and not part and (key := _KEY.match(line)):
            found[-1].keys.setdefault(key[1], number)
    return found if len(found) == count else None


def _open_quote(line: str, quote: str) -> str:
    """Which long text is still open behind `line`, where `quote` was before it."""
    place = 0
    while True:
        marks = [quote] if quote else _LONG_TEXT
        places = [(at, mark) for mark in marks if (at := line.find(mark, place)) >= 0]
        if not places:
            return quote
        place, mark = min(places)
        place += len(mark)
        quote = "" if quote else mark
