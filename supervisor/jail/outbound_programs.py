# SPDX-License-Identifier: Apache-2.0
"""Owns the kernel programs by which a cgroup reaches what its outbound list names, and nothing else. Pure.

Made and loaded in the child that becomes a contained command. One judges each packet that leaves; the two others only
have a connection refused at once that would otherwise be tried in vain for minutes.
"""

import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple

# enum bpf_prog_type and bpf_attach_type.
_SKB, _SOCK_ADDR = 8, 18
_EGRESS, _CONNECT4, _CONNECT6 = 1, 10, 11
# struct bpf_insn by what it does: a word, half a word or a byte of memory into a register; the reverse; and so on.
_WORD, _HALF, _BYTE, _STORE = 0x61, 0x69, 0x71, 0x63
_SET, _COPY, _ADD, _MASK, _SHIFT, _JOIN = 0xB7, 0xBF, 0x07, 0x54, 0x67, 0x4F
_IF, _UNLESS, _GO, _CALL, _RETURN = 0x16, 0x56, 0x05, 0x85, 0x95
# The context; what is sought of the packet; the stack.
_CONTEXT, _SCRATCH, _KEY, _PORT, _STACK = 6, 2, 7, 8, 10
_LOAD_BYTES = 26
# In struct __sk_buff, and in struct bpf_sock_addr.
_PROTOCOL = 16
_USER_IP4, _USER_IP6, _USER_PORT = 4, 8, 24
_TCP, _UDP = 6, 17
_MAPPED = (0, 0, struct.unpack("=i", b"\0\0\xff\xff")[0])
_NO_FRAGMENT = socket.htons(0x3FFF)


class Place(NamedTuple):
    """What may be reached: the addresses of which the first `bits` are those of `address`, at these ports."""

    address: bytes
    bits: int
    tcp: tuple[int, ...]
    udp: tuple[int, ...]


class Program(NamedTuple):
    """One program, and what the kernel has to be told of it."""

    kind: int
    attach_type: int
    code: bytes


def programs(places: tuple[Place, ...]) -> tuple[Program, ...]:
    """All of them, the one that is the boundary first."""
    return (
        Program(_SKB, _EGRESS, _leaving(places)),
        Program(_SOCK_ADDR, _CONNECT4, _connecting(places, 4)),
        Program(_SOCK_ADDR, _CONNECT6, _connecting(places, 16)),
    )


class _Code:
    """Instructions being written; a jump names a mark, which comes later."""

    def __init__(self) -> None:
        self._steps: list[tuple[int, int, int, int | str, int]] = []
        self._marks: dict[str, int] = {}

    def add(self, code: int, target: int = 0, source: int = 0, offset: int | str = 0, value: int = 0) -> None:
        self._steps.append((code, target, source, offset, value))

    def mark(self, name: str) -> None:
        self._marks[name] = len(self._steps)

    def finished(self) -> bytes:
        """With what all jump to at the end; an instruction that nobody comes to would be refused by the kernel."""
        for name, answer in (("refuse", 0), ("allow", 1)):
            if name == "refuse" or any(step[3] == name for step in self._steps):
                self.mark(name)
                self.add(_SET, 0, value=answer)
                self.add(_RETURN)
        return b"".join(
            struct.pack("=BBhi", code, target | source << 4, self._distance(at, offset), value)
            for at, (code, target, source, offset, value) in enumerate(self._steps)
        )

    def _distance(self, at: int, offset: int | str) -> int:
        return offset if isinstance(offset, int) else self._marks[offset] - at - 1


def _leaving(places: tuple[Place, ...]) -> bytes:
    """By the packet itself, for all protocols: neither options, extension headers nor fragments are let through."""
    code = _Code()
    code.add(_COPY, _CONTEXT, 1)
    code.add(_WORD, _SCRATCH, _CONTEXT, _PROTOCOL)
    code.add(_UNLESS, _SCRATCH, offset="IPv6", value=socket.htons(0x0800))
    _load(code, 0, 20, -40)
    code.add(_BYTE, _SCRATCH, _STACK, -40)
    code.add(_UNLESS, _SCRATCH, offset="refuse", value=0x45)
    code.add(_HALF, _SCRATCH, _STACK, -40 + 6)
    code.add(_MASK, _SCRATCH, value=_NO_FRAGMENT)
    code.add(_UNLESS, _SCRATCH, offset="refuse", value=0)
    _seek(code, protocol_at=-40 + 9, address_at=-40 + 16, words=1, port_in=20 + 2)
    _look_up(code, places, 4, by_protocol=True)
    code.add(_GO, offset="refuse")
    code.mark("IPv6")
    code.add(_UNLESS, _SCRATCH, offset="refuse", value=socket.htons(0x86DD))
    _load(code, 0, 40, -64)
    _seek(code, protocol_at=-64 + 6, address_at=-64 + 24, words=4, port_in=40 + 2)
    _look_up(code, places, 16, by_protocol=True)
    return code.finished()


def _connecting(places: tuple[Place, ...], size: int) -> bytes:
    """By address and port: a port of UDP is fine for TCP here, because a resolver tries so what can be reached."""
    code = _Code()
    code.add(_COPY, _CONTEXT, 1)
    code.add(_WORD, _KEY, _CONTEXT, _USER_PORT)
    first = _USER_IP4 if size == 4 else _USER_IP6
    for at in range(0, size, 4):
        code.add(_WORD, _SCRATCH, _CONTEXT, first + at)
        code.add(_STORE, _STACK, _SCRATCH, at - size)
    if size == 16:
        for place, word in enumerate(_MAPPED):
            code.add(_WORD, _SCRATCH, _STACK, 4 * place - size)
            code.add(_UNLESS, _SCRATCH, offset="not mapped", value=word)
        _look_up(code, places, 4, by_protocol=False)
        code.add(_GO, offset="refuse")
        code.mark("not mapped")
    _look_up(code, places, size, by_protocol=False)
    return code.finished()


def _load(code: _Code, start: int, size: int, to: int) -> None:
    """Bytes of the packet to the stack; refused where it has none there."""
    code.add(_COPY, 1, _CONTEXT)
    code.add(_SET, 2, value=start)
    code.add(_COPY, 3, _STACK)
    code.add(_ADD, 3, value=to)
    code.add(_SET, 4, value=size)
    code.add(_CALL, value=_LOAD_BYTES)
    code.add(_UNLESS, 0, offset="refuse", value=0)


def _seek(code: _Code, *, protocol_at: int, address_at: int, words: int, port_in: int) -> None:
    """Address to the end of the stack, protocol and port into one register; of a header that is on the stack."""
    for number in range(words):
        code.add(_WORD, _SCRATCH, _STACK, address_at + 4 * number)
        code.add(_STORE, _STACK, _SCRATCH, 4 * (number - words))
    code.add(_BYTE, _KEY, _STACK, protocol_at)
    _load(code, port_in, 2, -72)
    code.add(_HALF, _PORT, _STACK, -72)
    code.add(_SHIFT, _KEY, value=16)
    code.add(_JOIN, _KEY, _PORT)


def _look_up(code: _Code, places: Iterable[Place], size: int, *, by_protocol: bool) -> None:
    """To "allow" where one of the places with addresses of that size fits; on, where none does."""
    for number, place in enumerate(places):
        if len(place.address) != size:
            continue
        other = f"{size} bytes, behind {number}"
        for at in range(0, (place.bits + 7) // 8, 4):
            code.add(_WORD, _SCRATCH, _STACK, at - size)
            count = min(32, place.bits - 8 * at)
            if count < 32:
                mask = (0xFFFFFFFF << (32 - count)) & 0xFFFFFFFF
                code.add(_MASK, _SCRATCH, value=_word(mask.to_bytes(4, "big")))
            code.add(_UNLESS, _SCRATCH, offset=other, value=_word(place.address[at : at + 4]))
        for protocol, ports in ((_TCP, place.tcp), (_UDP, place.udp)):
            for port in ports:
                code.add(_IF, _KEY, offset="allow", value=protocol * by_protocol << 16 | socket.htons(port))
        code.mark(other)


def _word(content: bytes) -> int:
    """Four bytes of a packet as the kernel compares them: a number of this machine."""
    number: int = struct.unpack("=i", content)[0]
    return number
