# SPDX-License-Identifier: Apache-2.0
"""Owns the catalogue of what vendors' commands try, and what is expected of each class: policy/attacks/handlers/*.toml.

Runs in the process of `agent-supervisor prove` and in tests; it holds data only, and no resident process loads it.
"""

import os
import tomllib
from collections.abc import Sequence
from typing import Annotated, Literal, get_args

import msgspec

from ipc.errors import ConfigError
from ipc.messages.extension_rules import HandlerClass
from policy.load import own_folder

CLASSES: tuple[HandlerClass, ...] = get_args(HandlerClass)
Way = Literal["plain", "determined"]
WAYS: tuple[Way, ...] = get_args(Way)
Expected = Literal["reached", "refused"]


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One thing to come by. `plain` and `determined` are lines of sh, which reach it where they end with status 0;
    `compat` and `contained` what is expected of the one and of the other, `why` what makes it so where it is reached.

    `evidence` is what shows that there is something to reach here: the same line as root without confinement, the
    "determined" line so, or "none": the line shows it by itself. `counts`: what it prints is told. `read_back` is a
    file in its status folder which it leaves, and which is reached if the agent's reader then has any of it."""

    id: Annotated[str, msgspec.Meta(pattern="^[a-z0-9]+(-[a-z0-9]+)*$")]
    title: Annotated[str, msgspec.Meta(min_length=10)]
    plain: str
    compat: tuple[Expected, ...]
    contained: tuple[Expected, ...] = ()
    determined: str = ""
    number: Annotated[int, msgspec.Meta(ge=0, le=60)] = 0
    why: str = ""
    evidence: Literal["same", "determined", "none"] = "same"
    counts: bool = False
    read_back: str = ""

    def line(self, way: Way) -> str:
        """Empty where it is not tried that way."""
        return self.plain if way == "plain" else self.determined

    def expected(self, handler_class: HandlerClass, way: Way) -> Expected:
        """Of a contained one nothing is reached, unless it is said."""
        said = self.compat if handler_class == "compat" else self.contained
        return said[WAYS.index(way)] if said else "refused"


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    cases: tuple[Case, ...]


def read_cases(folder: str = "") -> tuple[Case, ...]:
    """Every case, in the order of the list of sixty; ConfigError names the file and the field, or what is wrong."""
    folder = folder or f"{own_folder()}/attacks/handlers"
    found: list[Case] = []
    for name in sorted(os.listdir(folder), reverse=True):
        if not name.endswith(".toml"):
            continue
        try:
            with open(f"{folder}/{name}", "rb") as file:
                cases = msgspec.convert(tomllib.load(file), _File).cases
        except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
            raise ConfigError(f"attacks/handlers/{name}", str(error)) from None
        found += cases
    problems = lint(found)
    if problems:
        raise ConfigError("attacks/handlers", "; ".join(problems))
    return tuple(sorted(found, key=lambda case: case.number or 99))


def lint(cases: Sequence[Case]) -> list[str]:
    """Everything wrong with them beyond their shape, a line each."""
    ids = [case.id for case in cases]
    found = [f"{name}: this id is there twice" for name in sorted(set(ids)) if ids.count(name) > 1]
    for case in cases:
        ways = 2 if case.determined else 1
        for name, said in (("compat", case.compat), ("contained", case.contained)):
            if len(said) != ways and (said or name == "compat"):
                found.append(f"{case.id}: {name} says {len(said)} times what is expected of {ways} ways")
        if "reached" in (*case.compat, *case.contained) and not case.why:
            found.append(f"{case.id}: is reached, and no word on why")
        if case.evidence == "determined" and not case.determined:
            found.append(f"{case.id}: has evidence by a way that it has not")
    return found
