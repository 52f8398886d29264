# SPDX-License-Identifier: Apache-2.0
"""Owns what a command puts on a terminal of text that others had a say in."""


def in_one_line(text: str) -> str:
    """`text` of however many lines, printable, with single blanks for all that separates words in it."""
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """Printable characters only: what a worker, a medium or the host may have written must not steer a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
