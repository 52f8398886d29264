# SPDX-License-Identifier: Apache-2.0
"""Owns the bytes of a message: msgpack with limits, then strict typed conversion; runs in every process.

A frame is the array [version, sequence, name, body, descriptors]. It must never accept a frame that two readers
could understand differently: no extension types, no duplicate keys, no trailing bytes.
"""

from typing import Any

import msgpack
import msgspec

from ipc.errors import MalformedMessage
from ipc.messages import Message, find

VERSION = 1
MAX_FRAME_BYTES = 160 * 1024  # below a SEQPACKET socket's default send buffer, so that one frame is one packet
MAX_TEXT_BYTES = 64 * 1024
MAX_ITEMS = 1024
MAX_DESCRIPTORS = 4


class Frame(msgspec.Struct, frozen=True):
    """One decoded frame: its place in the sender's sequence, the message, and how many descriptors accompany it."""

    sequence: int
    message: Message
    descriptors: int


def encode(message: Message, sequence: int, descriptors: int = 0) -> bytes:
    """Bytes of `message`. Raises MalformedMessage when it breaks the limits that the receiver will apply."""
    name = type(message).__name__
    if find(name) is not type(message):
        raise MalformedMessage(f"{name} is not in the catalogue")
    frame: bytes = msgpack.packb([VERSION, sequence, name, msgspec.to_builtins(message), descriptors])
    if len(frame) > MAX_FRAME_BYTES:
        raise MalformedMessage(f"{name} of {len(frame)} bytes is over the limit of {MAX_FRAME_BYTES}")
    return frame


def decode(frame: bytes) -> Frame:
    """The message in `frame`. Raises MalformedMessage, whose text never holds the frame's content."""
    if len(frame) > MAX_FRAME_BYTES:
        raise MalformedMessage(f"frame of {len(frame)} bytes is over the limit of {MAX_FRAME_BYTES}")
    match _unpack(frame):
        case [int(version), int(sequence), str(name), dict(body), int(descriptors)]:
            pass
        case _:
            raise MalformedMessage("frame is not [version, sequence, name, body, descriptors]")
    if version != VERSION or isinstance(version, bool):
        raise MalformedMessage(f"version {version} is not {VERSION}")
    if isinstance(sequence, bool) or sequence < 0:
        raise MalformedMessage("sequence is not a count")
    if isinstance(descriptors, bool) or not 0 <= descriptors <= MAX_DESCRIPTORS:
        raise MalformedMessage(f"descriptor count is not between 0 and {MAX_DESCRIPTORS}")
    kind = find(name)
    if kind is None:
        raise MalformedMessage(f"no message is called {name[:64]!r} here")
    try:
        return Frame(sequence, msgspec.convert(body, kind, strict=True), descriptors)
    except (msgspec.ValidationError, RecursionError) as error:
        raise MalformedMessage(f"{name}: {str(error)[:200]}") from None


def _unpack(frame: bytes) -> Any:
    """Raw msgpack under limits; the result is untyped until `msgspec.convert`."""
    try:
        return msgpack.unpackb(
            frame,
            raw=False,
            strict_map_key=True,
            use_list=True,
            object_pairs_hook=_unique_pairs,
            ext_hook=_no_extension,
            max_str_len=MAX_TEXT_BYTES,
            max_bin_len=MAX_TEXT_BYTES,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
            max_ext_len=0,
        )
    except MalformedMessage:
        raise
    except (msgpack.UnpackException, ValueError, RecursionError, MemoryError) as error:
        raise MalformedMessage(f"not msgpack within limits: {type(error).__name__}") from None


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise MalformedMessage("duplicate key")
    return unique


def _no_extension(code: int, data: bytes) -> Any:
    raise MalformedMessage(f"extension type {code}")
