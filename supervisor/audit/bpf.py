# SPDX-License-Identifier: Apache-2.0
"""Owns asking a system-call filter program what it would answer, without running it in a kernel. Pure."""

import struct

ALLOW = 0x7FFF0000
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_JUMPS = {0x10: "==", 0x20: ">", 0x30: ">=", 0x40: "&"}


def allows(program: bytes, machine: str, number: int, *arguments: int) -> bool:
    """Whether the call passes; ValueError for a program that uses what no filter of ours does."""
    call = struct.pack("=iIQ6Q", number, _ARCHITECTURES[machine], 0, *arguments, *(0,) * (6 - len(arguments)))
    return _run(program, call) == ALLOW


def _run(program: bytes, data: bytes) -> int:
    """The value that it returns for struct seccomp_data `data`."""
    code = list(struct.iter_unpack("=HBBI", program))
    accumulator, at = 0, 0
    while at < len(code):  # jumps lead forward alone
        operation, if_true, if_false, value = code[at]
        at += 1
        if operation == 0x20:  # load a word
            accumulator = int.from_bytes(data[value : value + 4], "little")
        elif operation == 0x54:  # and
            accumulator &= value
        elif operation == 0x06:  # return
            return int(value)
        elif operation == 0x05:  # jump always
            at += value
        elif operation & 0x0F == 0x05 and operation & 0xF0 in _JUMPS:
            at += if_true if _holds(_JUMPS[operation & 0xF0], accumulator, value) else if_false
        else:
            raise ValueError(f"a filter instruction that this command does not know: {operation:#x}")
    raise ValueError("a filter that ends without an answer")


def _holds(relation: str, left: int, right: int) -> bool:
    if relation == "&":
        return bool(left & right)
    return left == right if relation == "==" else left > right if relation == ">" else left >= right
