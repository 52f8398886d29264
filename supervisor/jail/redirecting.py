# SPDX-License-Identifier: Apache-2.0
"""Owns the two small kernel programs that send a cgroup's connections to one address and port to another one.

Called by the redirect committer alone, which was given it before its confinement. What it attaches lasts as long as
somebody has the descriptors that it returns, and not a moment longer; it pins nothing.
"""

import os
import socket
import struct

from supervisor.jail import syscalls

Address = tuple[str, int]

_CGROUP_SOCK_ADDR = 18
_INET4_CONNECT, _INET6_CONNECT = 10, 11
# struct bpf_sock_addr: what the program is shown of the connection, and may write.
_USER_IP4, _USER_IP6, _USER_PORT, _PROTOCOL = 4, 8, 24, 36
_TCP = 6
# struct bpf_insn by what it does, r1 being what is shown: r2 = word of r1; on only if r2, 32 bits of it, is a value;
# r2 = value; word of r1 = r2; return r0.
_LOAD, _UNLESS, _SET, _STORE, _RETURN = 0x61, 0x56, 0xB7, 0x63, 0x95
_MAPPED = (0, 0, struct.unpack("=i", b"\0\0\xff\xff")[0])


def attach(cgroup: int, source: Address, destination: Address) -> tuple[int, int]:
    """Send TCP connections from the cgroup whose folder is open as `cgroup`, and from those below it, to `destination`
    where they are meant for `source`; by IPv4, and by IPv6 where the address is a mapped one.

    Two descriptors, the caller's, that keep it so. OSError from a kernel that has no such programs."""
    links: list[int] = []
    try:
        for place, program in (
            (_INET4_CONNECT, _program(_USER_IP4, (), source, destination)),
            (_INET6_CONNECT, _program(_USER_IP6 + 12, _MAPPED, source, destination)),
        ):
            loaded = syscalls.bpf_program(_CGROUP_SOCK_ADDR, place, program, b"as_grant")
            try:
                links.append(syscalls.bpf_link(loaded, cgroup, place))
            finally:
                os.close(loaded)
    except OSError:
        for link in links:
            os.close(link)
        raise
    return links[0], links[1]


def _program(address_at: int, prefix: tuple[int, ...], source: Address, destination: Address) -> bytes:
    """The instructions: look at protocol, address and port; write the other address and port; let all connect.

    `address_at` is where the IPv4 address stands, `prefix` the words of an IPv6 address that come before it."""
    wanted = [(_PROTOCOL, _TCP), (address_at, _word(source[0])), (_USER_PORT, _port(source[1]))]
    wanted += [(_USER_IP6 + 4 * place, word) for place, word in enumerate(prefix)]
    written = [(address_at, _word(destination[0])), (_USER_PORT, _port(destination[1]))]
    left = 2 * len(wanted) + 2 * len(written)
    code = []
    for offset, value in wanted:
        left -= 2
        code += [_instruction(_LOAD, 2, 1, offset), _instruction(_UNLESS, 2, 0, left, value)]
    for offset, value in written:
        code += [_instruction(_SET, 2, 0, 0, value), _instruction(_STORE, 1, 2, offset)]
    return b"".join((*code, _instruction(_SET, 0, 0, 0, 1), _instruction(_RETURN, 0, 0, 0)))


def _instruction(code: int, target: int, source: int, offset: int, value: int = 0) -> bytes:
    return struct.pack("=BBhi", code, target | source << 4, offset, value)


def _word(address: str) -> int:
    """As the kernel compares it: the four bytes in the order of the network, read as a number of this machine."""
    word: int = struct.unpack("=i", socket.inet_aton(address))[0]
    return word


def _port(port: int) -> int:
    return socket.htons(port)
