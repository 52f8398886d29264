# SPDX-License-Identifier: Apache-2.0
"""Values made from what a message's type says of itself: any that it allows, drawn at random; and some that it doesn't.

Knows nothing of single messages: a new one is made like all others.
"""

import random
import re._constants as op  # type: ignore[import-not-found]
import re._parser as regex  # type: ignore[import-not-found]
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec import inspect

from ipc.messages import Message
from tests.fabric.vocabulary import ALL

LETTERS = "abcXYZ019 _-/.:$=\\\"'<>&%\n\t\0é€\U0001f511"
MOST_LETTERS, MOST_ITEMS = 40, 5
SMALLEST, LARGEST = -(1 << 63), (1 << 64) - 1
SHAPES: dict[str, inspect.StructType] = {
    kind.__name__: shape for kind in ALL if isinstance(shape := inspect.type_info(kind), inspect.StructType)
}


def message(draw: random.Random) -> Message:
    """A message of any type, with whatever its type allows."""
    kind = draw.choice(ALL)
    return msgspec.convert(fields(SHAPES[kind.__name__], draw), kind)


def fields(shape: inspect.StructType, draw: random.Random) -> dict[str, Any]:
    """A struct's content as plain data; what has a default is left out now and then."""
    return {field.name: value(field.type, draw) for field in shape.fields if field.required or draw.random() < 0.8}


def value(shape: inspect.Type, draw: random.Random) -> Any:
    """Plain data that a field of this type takes."""
    return _MAKERS[type(shape)](shape, draw)


def _text(shape: inspect.StrType, draw: random.Random) -> str:
    least, most = shape.min_length or 0, shape.max_length or 1 << 16
    if shape.pattern is not None:
        nodes = regex.parse(shape.pattern)
        texts = iter(lambda: "".join(_matching(node, draw) for node in nodes), None)
        return next(text for text in texts if least <= len(text) <= most)
    length = draw.choice((least, draw.randint(least, min(most, MOST_LETTERS)), most if draw.random() < 0.02 else least))
    return "".join(draw.choices(LETTERS[:12] if length > MOST_LETTERS else LETTERS, k=length))


def _matching(node: tuple[Any, Any], draw: random.Random) -> str:
    """A text that a piece of a pattern matches."""
    kind, argument = node
    make = _PIECES.get(kind)
    if make is None:
        raise ValueError(f"a pattern with {kind} is none that is made here yet")
    return make(argument, draw)


def _all(nodes: Iterable[tuple[Any, Any]], draw: random.Random) -> str:
    return "".join(_matching(each, draw) for each in nodes)


def _repeated(argument: tuple[int, int, Any], draw: random.Random) -> str:
    least, most, what = argument
    return "".join(_all(what, draw) for _ in range(draw.randint(least, min(int(most), least + 30))))


def _one_of(choices: list[tuple[Any, Any]], draw: random.Random) -> str:
    """A letter of a class; of one of those that a class with ^ leaves."""
    if choices[0][0] is not op.NEGATE:
        return _matching(draw.choice(choices), draw)
    barred = {chr(code) for kind, code in choices[1:] if kind is op.LITERAL}
    barred |= {chr(code) for kind, ends in choices[1:] if kind is op.RANGE for code in range(ends[0], ends[1] + 1)}
    return draw.choice([letter for letter in LETTERS if letter not in barred])


_PIECES: dict[Any, Callable[[Any, random.Random], str]] = {
    op.LITERAL: lambda code, _: chr(code),
    op.NOT_LITERAL: lambda code, draw: draw.choice([letter for letter in LETTERS if ord(letter) != code]),
    op.IN: _one_of,
    op.RANGE: lambda ends, draw: chr(draw.randint(*ends)),
    op.BRANCH: lambda branches, draw: _all(draw.choice(branches[1]), draw),
    op.SUBPATTERN: lambda group, draw: _all(group[-1], draw),
    op.MAX_REPEAT: _repeated,
    op.AT: lambda *_: "",
    # What may not come next is too long to be drawn.
    op.ASSERT_NOT: lambda *_: "",
}


def _number(shape: inspect.IntType, draw: random.Random) -> int:
    least = SMALLEST if shape.ge is None else shape.ge
    most = LARGEST if shape.le is None else shape.le
    near = draw.randint(max(least, -70_000), min(most, max(least, 70_000)))
    return draw.choice((least, most, near, near))


def _fraction(shape: inspect.FloatType, draw: random.Random) -> float:
    """Between its bounds, both of which a message's numbers of this kind have."""
    assert shape.gt is not None
    assert shape.le is not None
    return draw.choice((shape.le, shape.le - (shape.le - shape.gt) * draw.random() / 2))


def _items(shape: inspect.VarTupleType, draw: random.Random) -> list[Any]:
    least, most = shape.min_length or 0, shape.max_length or MOST_ITEMS
    return [value(shape.item_type, draw) for _ in range(draw.randint(least, max(least, min(most, MOST_ITEMS))))]


_MAKERS: dict[type[inspect.Type], Callable[[Any, random.Random], Any]] = {
    inspect.StrType: _text,
    inspect.IntType: _number,
    inspect.FloatType: _fraction,
    inspect.BoolType: lambda _, draw: draw.random() < 0.5,
    inspect.NoneType: lambda *_: None,
    inspect.UnionType: lambda shape, draw: value(draw.choice(shape.types), draw),
    inspect.VarTupleType: _items,
    inspect.TupleType: lambda shape, draw: [value(each, draw) for each in shape.item_types],
    inspect.StructType: fields,
    inspect.LiteralType: lambda shape, draw: draw.choice(shape.values),
}


# --- what no type allows ------------------------------------------------------------------------------------------

ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1 << 63, LARGEST, 1.5, float("nan"), float("inf"), "", "x" * 70_000, "\ud7ff", b"", b"\xff" * 9,
    [], {}, [[]] * 9, {"value": 1}, {"": None}, ["x"] * 1025, [{}] * 300,
)  # fmt: skip


def spoil(content: dict[str, Any], draw: random.Random) -> None:
    """Change one thing somewhere in plain data."""
    places: list[tuple[Any, Any]] = [(content, key) for key in content]
    for holder, key in places:
        inner = holder[key]
        if isinstance(inner, dict | list) and len(places) < 200:
            places += [(inner, each) for each in (inner if isinstance(inner, dict) else range(len(inner)))]
    choice = draw.random()
    if choice < 0.15 or not places:
        content[draw.choice(("more", "", "kind", "\0"))] = draw.choice(ODD)
        return
    holder, key = draw.choice(places)
    if choice < 0.3 and isinstance(holder, dict):
        del holder[key]
    elif choice < 0.45 and isinstance(holder[key], list) and holder[key]:
        holder[key] *= draw.choice((2, 60, 300))
    else:
        holder[key] = draw.choice(ODD)
