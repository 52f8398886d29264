# SPDX-License-Identifier: Apache-2.0
"""Owns how a value is told that a policy's file has and that does not fit: by the key as TOML has it, and in words.

Pure; used by the sealed compiler and the command line. What was found is msgspec's finding, of which the text is read.
"""

import re
from collections.abc import Callable, Mapping

import msgspec

_TYPES = {
    "bool": "true or false", "str": "a text", "int": "a whole number", "float": "a number", "array": "a list",
    "object": "a table",
}  # fmt: skip
_COUNTED = {"str": " characters", "array": " entries", "object": " keys"}
_STEP = re.compile(r"\.?([^.\[\]]+)|\[(\d+|\.\.\.)\]")
# What msgspec says, and what is said of it: of the key where that is part of it, and of the value.
_SAYINGS: tuple[tuple[re.Pattern[str], Callable[[re.Match[str]], tuple[str, str]]], ...] = (
    (re.compile(r"Object contains unknown field `(.*)`"), lambda found: (found[1], "there is no such key")),
    (re.compile(r"Object missing required field `(.*)`"), lambda found: (found[1], "is missing")),
    (re.compile(r"Invalid enum value (.*)"), lambda found: ("", f"{found[1]} is no word that may stand here")),
    (
        re.compile(r"Expected `([^`]+)`, got `([^`]+)`"),
        lambda found: ("", f"is {_TYPES.get(found[2], found[2])}, expected {_types(found[1])}"),
    ),
    (
        re.compile(r"Expected `(\w+)`(?: of length)? (<=|>=) (\S+)"),
        lambda found: ("", f"expected {_types(found[1])} of {_bound(found[2], found[3])}{_COUNTED.get(found[1], '')}"),
    ),
    (re.compile(r"Expected `str` matching regex (.*)"), lambda found: ("", f"expected a text of the form {found[1]}")),
)


def place(error: msgspec.ValidationError) -> str:
    """Where it was found, as msgspec has it: "limits.tasks", "denied[0]"; empty for the whole."""
    return str(error).partition(" - at `$")[2].strip(".`")


def told(error: msgspec.ValidationError, forms: Mapping[str, str] | None = None) -> str:
    """The key, and what is wrong with its value; `forms` says by key what a text that has not its form should be."""
    problem, at = str(error).partition(" - at `$")[0], place(error)
    if forms and at in forms and "matching regex" in problem:
        return f"{at}: expected {forms[at]}"
    for pattern, saying in _SAYINGS:
        if found := pattern.fullmatch(problem):
            more, problem = saying(found)
            at = f"{at}.{more}".strip(".")
            break
    return f"{_key(at)}: {problem}" if at else problem


def _key(at: str) -> str:
    """As TOML has it: there lists have entries, which people count from 1."""
    said, in_list = "", False
    for name, number in _STEP.findall(at):
        entry = f"entry {int(number) + 1}" if number.isdigit() else "one of its values"
        glue = "." if name and not in_list else ", "
        said = f"{said}{glue if said else ''}{name or entry}"
        in_list = not name
    return said


def _types(expected: str) -> str:
    names = [name for name in expected.split(" | ") if name != "null"]
    if {"int", "float"} <= set(names):
        names.remove("int")
    return " or ".join(_TYPES.get(name, name) for name in names)


def _bound(sign: str, number: str) -> str:
    return f"at {'least' if sign == '>=' else 'most'} {number}"
