# SPDX-License-Identifier: Apache-2.0
"""Attaches a program that lets all pass to a cgroup, and that admits none beside it: `... sole_program FOLDER`.

Runs in a lab, as root; it stays for as long as the cgroup does.
"""

import ctypes
import os
import struct
import sys

from supervisor.jail import syscalls

_ATTACH, _CONNECT4, _SOCK_ADDR = 8, 10, 18


def main() -> None:
    """Attach it without BPF_F_ALLOW_MULTI."""
    # r0 = 1; return.
    code = struct.pack("=BBhiBBhi", 0xB7, 0, 0, 1, 0x95, 0, 0, 0)
    program = syscalls.bpf_program(_SOCK_ADDR, _CONNECT4, code, b"sole")
    folder = os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY)
    words = ctypes.create_string_buffer(struct.pack("=IIII", folder, program, _CONNECT4, 0))
    number = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
    if ctypes.CDLL(None, use_errno=True).syscall(number, _ATTACH, words, 16) != 0:
        sys.exit(os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    main()
