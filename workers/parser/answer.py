# SPDX-License-Identifier: Apache-2.0
"""Owns the last look at an answer: does it keep the limits of its type, does a frame hold it; runs in the parser."""

from typing import TypeVar

from ipc import codec
from ipc.errors import InputError, MalformedMessage
from ipc.messages import Message

T = TypeVar("T", bound=Message)


def fitting(message: T) -> T:
    """`message`, which the other side will take for the same. InputError names the field and its limit."""
    try:
        codec.decode(codec.encode(message, 0))
    except (MalformedMessage, OverflowError) as error:
        problem, _, place = str(error).partition(" - at `$.")
        raise InputError(place.rstrip("`") or "document", f"can't be handed over: {problem}") from None
    return message
