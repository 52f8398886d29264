# SPDX-License-Identifier: Apache-2.0
"""Owns reading a compiled system-call filter back: which calls it lets succeed, by number, from the program alone.

Pure; for whoever has a compiled policy without its sources. It runs nothing and knows no names.
"""

import struct
from collections.abc import Iterator

from ipc.errors import ConfigError

# The classes and modes of classic BPF that seccomp programs are made of (linux/bpf_common.h).
_LOAD, _AND, _JUMP, _EQUAL, _GREATER, _GREATER_EQUAL, _ANY_BIT, _RETURN = 0x20, 0x54, 0x05, 0x15, 0x25, 0x35, 0x45, 0x06
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4
_ALLOW, _ACTION = 0x7FFF0000, 0xFFFF0000
_ERRNO, _KILL_PROCESS = 0x00050000, 0x80000000
_INSTRUCTION = struct.Struct("=HBBI")

Instruction = tuple[int, int, int, int]


class Reach(dict[int, bool]):
    """Call number -> whether it succeeds whatever its arguments; calls that never succeed are not in it."""


def reach(program: bytes, source: str) -> Reach:
    """What `program` allows on the architecture that it was made for; ConfigError, naming `source`, for an odd one."""
    code = list(_INSTRUCTION.iter_unpack(program))
    found = Reach()
    # A number that the program never compares with is answered like any other such.
    for number in sorted({k for operation, _, _, k in code if operation == _EQUAL and k < 1 << 12}):
        answers = frozenset(_answers(code, number, source))
        if _ALLOW in answers:
            found[number] = answers == {_ALLOW}
    return found


def otherwise(program: bytes, source: str) -> str:
    """What a call that it does not name meets: "kill", "enosys", or the action as a number."""
    unnamed = (1 << 12) - 1
    answers = frozenset(_answers(list(_INSTRUCTION.iter_unpack(program)), unnamed, source))
    words = {frozenset({_KILL_PROCESS}): "kill", frozenset({_ERRNO}): "enosys"}
    return words.get(answers, ", ".join(hex(answer) for answer in sorted(answers)))


def _answers(code: list[Instruction], number: int, source: str) -> Iterator[int]:
    """Every action that call `number` may meet, arguments being anything. None stands for a value not known."""
    own = next((k for operation, _, _, k in code if operation == _EQUAL and k >= 1 << 30), 0)
    seen: set[tuple[int, int | None]] = set()
    waiting: list[tuple[int, int | None]] = [(0, None)]
    while waiting:
        place, value = waiting.pop()
        if (place, value) in seen:
            continue
        seen.add((place, value))
        if place >= len(code):
            raise ConfigError(source, "is no filter: it runs past its end")
        operation, yes, no, k = code[place]
        if operation == _RETURN:
            yield k & _ACTION
        elif operation == _LOAD:
            waiting.append((place + 1, {_NUMBER_AT: number, _ARCHITECTURE_AT: own}.get(k)))
        elif operation == _AND:
            waiting.append((place + 1, None if value is None else value & k))
        elif operation == _JUMP:
            waiting.append((place + 1 + k, value))
        else:
            waiting += [(place + 1 + (yes if holds else no), value) for holds in _branches(operation, value, k, source)]


def _branches(operation: int, value: int | None, k: int, source: str) -> tuple[bool, ...]:
    if operation not in {_EQUAL, _GREATER, _GREATER_EQUAL, _ANY_BIT}:
        raise ConfigError(source, f"is no filter of ours: instruction {operation:#x}")
    if value is None:
        return (True, False)
    return (
        {
            _EQUAL: value == k,
            _GREATER: value > k,
            _GREATER_EQUAL: value >= k,
            _ANY_BIT: bool(value & k),
        }[operation],
    )
