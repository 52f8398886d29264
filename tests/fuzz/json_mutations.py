# SPDX-License-Identifier: Apache-2.0
"""Mutations of JSON documents: fields go, come twice, change their type, their case and their place; then the bytes."""

import copy
import json
import random
from collections.abc import Callable, Iterator
from typing import Any

ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**70), 1.0, 1e308, "", " ", "x", "\0", "http", "vtpm", "1.0",
    "2.0", "Audit", "ENFORCE", "disabled", "\u00e4" * 600, "x" * 70_000, "0" * 64, "\U0001f511", "\ud800", [], {},
    [[]], {"mode": "audit"}, "9cf81e97-0316-4ad3-94a7-8ccbdee8ddbf", "2026-13-45T99:99:99Z", "Azure-HMAC-SHA256",
]  # fmt: skip
NAMES = (
    "version", "keyGuid", "guid", "key", "issued", "mode", "imds", "hostga", "secureChannelState", "x", "",
    "secureChannelEnabled", "keyIncarnationId", "incarnationId", "authorizationRules", "defaultAccess",
)  # fmt: skip
RAW = (
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\xc0\x80",
    b"\\u12",
    b"\\",
    b'"',
    b"NaN",
    b"1e999",
    b"{",
    b"]",
    b",,",
)
DEEP = 60_000
Holder = tuple[Any, Any]


def mutate(document: bytes, draw: random.Random) -> bytes:
    """One to five changes of `document`."""
    tree = json.loads(document)
    for _ in range(draw.choice((0, 1, 1, 2, 5))):
        draw.choice(OPERATIONS)(tree, draw)
    text = json.dumps(tree, ensure_ascii=draw.random() < 0.8, indent=draw.choice((None, None, 1)))
    return _finish(text.encode("utf-8", "surrogatepass"), draw)


def _finish(document: bytes, draw: random.Random) -> bytes:
    """Every third time the bytes themselves are changed."""
    return draw.choice(ENDINGS)(document, draw) if draw.random() < 1 / 3 else document


def _cut(document: bytes, draw: random.Random) -> bytes:
    return document[: draw.randrange(len(document) + 1)]


def _raw(document: bytes, draw: random.Random) -> bytes:
    at = draw.choice((0, draw.randrange(len(document) + 1)))
    return document[:at] + draw.choice(RAW) + document[at + draw.randrange(3) :]


def _encoded(document: bytes, draw: random.Random) -> bytes:
    return document.decode("utf-8", "replace").encode(draw.choice(("utf-16", "utf-16-le", "utf-7")))


def _noise(_: bytes, draw: random.Random) -> bytes:
    return draw.randbytes(draw.randrange(200))


def _deep(document: bytes, draw: random.Random) -> bytes:
    return document[:-1] + b',"z":' + draw.choice((b"[", b'{"a":')) * draw.choice((10, 1000, DEEP))


def _long(document: bytes, draw: random.Random) -> bytes:
    return document.replace(b"1", b"9" * draw.choice((20, 5000, 100_000)), 1)


def _twice(document: bytes, draw: random.Random) -> bytes:
    """A field once more, with another value."""
    more = f'"{draw.choice(NAMES)}": {json.dumps(_odd(draw))}'.encode()
    return document.rstrip()[:-1] + b"," + more + b"}"


def _odd(draw: random.Random) -> Any:
    """One of ODD, and nobody else's."""
    return copy.deepcopy(draw.choice(ODD))


def _places(tree: Any) -> Iterator[Holder]:
    """Every object and list with each of its keys."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from _places(tree[key])


def _place(tree: Any, draw: random.Random) -> Holder | None:
    places = list(_places(tree))
    return draw.choice(places) if places else None


def _drop(tree: Any, draw: random.Random) -> None:
    if place := _place(tree, draw):
        del place[0][place[1]]


def _set(tree: Any, draw: random.Random) -> None:
    if place := _place(tree, draw):
        place[0][place[1]] = _odd(draw)


def _add(tree: Any, draw: random.Random) -> None:
    if isinstance(tree, dict):
        tree[draw.choice(NAMES)] = _odd(draw)


def _wrap(tree: Any, draw: random.Random) -> None:
    if place := _place(tree, draw):
        inner = place[0][place[1]]
        place[0][place[1]] = draw.choice(([inner], {"mode": inner}, {draw.choice(NAMES): inner}))


def _alter(tree: Any, draw: random.Random) -> None:
    """Another case, a letter more, less or other, in a text."""
    texts = [(holder, key) for holder, key in _places(tree) if isinstance(holder[key], str) and holder[key]]
    if texts:
        holder, key = draw.choice(texts)
        text = holder[key]
        at = draw.randrange(len(text))
        holder[key] = draw.choice(
            (
                text.upper(),
                text.lower(),
                text.title(),
                text + " ",
                text[:at],
                text[:at] + "\n" + text[at + 1 :],
                text * 2,
            )
        )


def _swap(tree: Any, draw: random.Random) -> None:
    one, other = _place(tree, draw), _place(tree, draw)
    if one and other:
        # As copies: nothing may come to hold itself.
        first, second = (copy.deepcopy(holder[key]) for holder, key in (one, other))
        one[0][one[1]], other[0][other[1]] = second, first


OPERATIONS: list[Callable[[Any, random.Random], None]] = [_drop, _set, _set, _add, _wrap, _alter, _alter, _swap]
ENDINGS = (_cut, _raw, _raw, _encoded, _noise, _twice, _deep, _long)
