# SPDX-License-Identifier: Apache-2.0
"""Mutations of bytes of any binary form: bits, bytes, pieces and lengths, a few of them at a time."""

import random
from collections.abc import Callable, Sequence

MAX_BYTES = 400_000
NUMBERS = (b"\0", b"\x7f", b"\x80", b"\xff", b"\xff" * 2, b"\xff" * 4, b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\0" * 8)


def mutate(data: bytes, tokens: Sequence[bytes], draw: random.Random) -> bytes:
    """`data` changed in one to six places; `tokens` are what is put in as it is."""
    for _ in range(draw.choice((1, 1, 1, 2, 3, 6))):
        data = draw.choice(_CHANGES)(data, tokens, draw)[:MAX_BYTES]
    return data


def _place(data: bytes, draw: random.Random) -> int:
    return draw.randrange(len(data) + 1)


def _flip(data: bytes, _: Sequence[bytes], draw: random.Random) -> bytes:
    if not data:
        return data
    place = draw.randrange(len(data))
    return data[:place] + bytes((data[place] ^ 1 << draw.randrange(8),)) + data[place + 1 :]


def _overwrite(data: bytes, tokens: Sequence[bytes], draw: random.Random) -> bytes:
    place, piece = _place(data, draw), draw.choice((*NUMBERS, *tokens, draw.randbytes(draw.randrange(1, 9))))
    return data[:place] + piece + data[place + len(piece) :]


def _insert(data: bytes, tokens: Sequence[bytes], draw: random.Random) -> bytes:
    place = _place(data, draw)
    piece = draw.choice((*NUMBERS, *tokens, *tokens, draw.randbytes(draw.randrange(1, 40))))
    return data[:place] + piece * draw.choice((1, 1, 1, 2, 100)) + data[place:]


def _remove(data: bytes, _: Sequence[bytes], draw: random.Random) -> bytes:
    place = _place(data, draw)
    return data[:place] + data[place + draw.choice((1, 1, 2, 8, 64)) :]


def _repeat(data: bytes, _: Sequence[bytes], draw: random.Random) -> bytes:
    begin, end = sorted((_place(data, draw), _place(data, draw)))
    return data[:end] + data[begin:end] * draw.choice((1, 1, 3, 50)) + data[end:]


def _cut(data: bytes, _: Sequence[bytes], draw: random.Random) -> bytes:
    return data[: _place(data, draw)]


_CHANGES: tuple[Callable[[bytes, Sequence[bytes], random.Random], bytes], ...] = (
    _flip, _flip, _flip, _overwrite, _overwrite, _insert, _remove, _repeat, _cut,
)  # fmt: skip
