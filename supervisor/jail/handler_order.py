# SPDX-License-Identifier: Apache-2.0
"""Owns what the supervisor and a command's warden have between them: the order, later its result, in a folder.

Used by the supervisor, which takes a result for what it has to be, or for none. The warden reads and writes the same
without these types, which take longer to load than all the rest of it.
"""

import os
from typing import Annotated, Literal, TypeVar

import msgspec

from ipc.errors import StateError
from supervisor.jail.handler_folder import MOST_BYTES, MOST_OUTPUT, ORDER, RESULT, write_whole

Verb = Literal["install", "enable", "update", "disable", "uninstall"]
Kind = TypeVar("Kind", "HandlerOrder", "HandlerResult")
Text = Annotated[str, msgspec.Meta(max_length=8192)]


class HandlerOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One command of one handler. `line` is for the shell; `base` its working folder, `folders` the names in `lib` that
    are its own. The key pair `thumbprint`, if any, is beside the order. `hidden` are folders of ours. `uid`: of a
    contained one's own account, 0 for none. `without`: numbers of the capabilities that it does not get.
    `outbound`: all that a contained one may send to, address or prefix, ports of TCP and of UDP; None: to anybody."""

    handler: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.]{1,200}\Z")]
    version: Annotated[str, msgspec.Meta(pattern=r"^[0-9.]{1,64}\Z")]
    extension: Annotated[str, msgspec.Meta(pattern=r"^[^/\x00]{0,200}\Z")]
    verb: Verb
    line: Text
    timeout_s: Annotated[int, msgspec.Meta(ge=1, le=86400)]
    environment: tuple[tuple[str, Text], ...]
    base: str
    folders: tuple[str, ...]
    thumbprint: Annotated[str, msgspec.Meta(pattern=r"^([0-9A-F]{40})?\Z")]
    lib: str
    log_folder: str
    hidden: tuple[str, ...]
    uid: Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)] = 0
    without: tuple[Annotated[int, msgspec.Meta(ge=0, le=63)], ...] = ()
    outbound: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] | None = None


class HandlerResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How it ended. `exit_code` is negative for a signal, None if it was killed because its time was over, or its shell
    never ran; `notes` are our own words, of what its surroundings lacked. `alone`: nothing of it lives on, and systemd
    forgets its unit by itself."""

    exit_code: Annotated[int, msgspec.Meta(ge=-64, le=255)] | None
    timed_out: bool
    output: Annotated[str, msgspec.Meta(max_length=MOST_OUTPUT)]
    seconds: Annotated[float, msgspec.Meta(ge=0)]
    notes: Annotated[tuple[Annotated[str, msgspec.Meta(max_length=1024)], ...], msgspec.Meta(max_length=32)] = ()
    alone: bool = False


def read_order(folder: str) -> HandlerOrder | None:
    """What was ordered there; None if nothing was. OSError when it can't be read now, StateError when it is none."""
    return _read(f"{folder}/{ORDER}", HandlerOrder)


def read_result(folder: str) -> HandlerResult | None:
    """What the warden has left; None if there is nothing. OSError when it can't be read now, StateError when it is
    none."""
    return _read(f"{folder}/{RESULT}", HandlerResult)


def _read(path: str, kind: type[Kind]) -> Kind | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        return msgspec.msgpack.decode(os.read(descriptor, MOST_BYTES), type=kind, strict=True)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateError(f"{path} holds no {path.rpartition('/')[2]}: {str(error)[:200]}") from None
    finally:
        os.close(descriptor)


def write_order(folder: str, order: HandlerOrder) -> None:
    """OSError."""
    write_whole(folder, ORDER, msgspec.msgpack.encode(order))
