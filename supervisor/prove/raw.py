# SPDX-License-Identifier: Apache-2.0
"""Owns the system calls that an attacker would make and the agent never does; runs in probes, never in the agent.

Apart from supervisor/jail/syscalls.py for that reason: what is here must not be within reach of a resident process.
"""

import ctypes
import errno
import os

_X86_64 = {
    "acct": 163, "add_key": 248, "adjtimex": 159, "bpf": 321, "capset": 126, "chroot": 161, "clone": 56, "clone3": 435,
    "delete_module": 176, "finit_module": 313, "fsopen": 430, "fspick": 433, "init_module": 175, "io_uring_setup": 425,
    "ioperm": 173, "kcmp": 312, "kexec_load": 246, "keyctl": 250, "mbind": 237, "memfd_secret": 447, "mknodat": 259,
    "mount": 165, "move_mount": 429, "name_to_handle_at": 303, "open_by_handle_at": 304, "open_tree": 428,
    "perf_event_open": 298, "personality": 135, "pidfd_getfd": 438, "pidfd_open": 434, "pivot_root": 155, "prctl": 157,
    "process_vm_readv": 310, "process_vm_writev": 311, "ptrace": 101, "quotactl": 179, "reboot": 169,
    "request_key": 249, "seccomp": 317, "setdomainname": 171, "sethostname": 170, "setns": 308, "shmat": 30,
    "shmctl": 31, "shmget": 29, "swapoff": 168, "swapon": 167, "syslog": 103, "umount2": 166, "unshare": 272,
    "userfaultfd": 323, "vhangup": 153,
}  # fmt: skip
_AARCH64 = {
    "acct": 89, "add_key": 217, "adjtimex": 171, "bpf": 280, "capset": 91, "chroot": 51, "clone": 220, "clone3": 435,
    "delete_module": 106, "finit_module": 273, "fsopen": 430, "fspick": 433, "init_module": 105, "io_uring_setup": 425,
    "kcmp": 272, "kexec_load": 104, "keyctl": 219, "mbind": 235, "memfd_secret": 447, "mknodat": 33, "mount": 40,
    "move_mount": 429, "name_to_handle_at": 264, "open_by_handle_at": 265, "open_tree": 428, "perf_event_open": 241,
    "personality": 92, "pidfd_getfd": 438, "pidfd_open": 434, "pivot_root": 41, "prctl": 167, "process_vm_readv": 270,
    "process_vm_writev": 271, "ptrace": 117, "quotactl": 60, "reboot": 142, "request_key": 218, "seccomp": 277,
    "setdomainname": 162, "sethostname": 161, "setns": 268, "shmat": 196, "shmctl": 195, "shmget": 194, "swapoff": 225,
    "swapon": 224, "syslog": 116, "umount2": 39, "unshare": 97, "userfaultfd": 282, "vhangup": 58,
}  # fmt: skip
# Looked up once: a confined process may not call uname.
NUMBERS = {"x86_64": _X86_64, "aarch64": _AARCH64}.get(os.uname().machine, {})
KNOWN = frozenset(_X86_64)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_ZEROS = ctypes.create_string_buffer(512)
Word = int | str | bytes
_ADJ_TICK = 0x4000


def call(name: str, *words: Word) -> int:
    """The result of system call `name`; OSError with the kernel's errno. The word "zeros" is a pointer to 512 zeros."""
    if name not in NUMBERS:
        raise OSError(errno.ENOSYS, f"{name}: no such call on this machine")
    result: int = _libc.syscall(ctypes.c_long(NUMBERS[name]), *map(_argument, words))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def address_of(secret: bytes) -> tuple[int, object]:
    """Where `secret` now lies in this process's memory, and what keeps it there."""
    kept = ctypes.create_string_buffer(secret, len(secret))
    return ctypes.addressof(kept), kept


def read_memory_of(pid: int, address: int, length: int) -> bytes:
    """`length` bytes at `address` of process `pid`, by process_vm_readv; OSError when it is denied."""
    into = ctypes.create_string_buffer(length)
    ours = (ctypes.c_void_p * 2)(ctypes.addressof(into), length)
    theirs = (ctypes.c_void_p * 2)(address, length)
    call("process_vm_readv", pid, ctypes.addressof(ours), 1, ctypes.addressof(theirs), 1, 0)
    return into.raw


def map_pages(protection: int) -> int:
    """The address of a fresh private page with `protection` (PROT_* bits)."""
    _libc.mmap.restype = ctypes.c_void_p
    place = _libc.mmap(None, ctypes.c_size_t(4096), protection, 0x22, -1, ctypes.c_long(0))
    if place in {None, ctypes.c_void_p(-1).value}:
        raise OSError(ctypes.get_errno(), "mmap")
    return int(place)


def protect(place: int, protection: int) -> None:
    """Mprotect one page."""
    if _libc.mprotect(ctypes.c_void_p(place), ctypes.c_size_t(4096), protection) != 0:
        raise OSError(ctypes.get_errno(), "mprotect")


def set_tick_as_it_is() -> None:
    """Adjtimex: read the clock's settings, which anyone may, and set the length of its tick to what it is."""
    settings = (ctypes.c_uint32 * 128)()
    call("adjtimex", ctypes.addressof(settings))
    settings[0] = _ADJ_TICK
    call("adjtimex", ctypes.addressof(settings))


def has_variable(name: str) -> bool:
    """Whether the C library sees a variable of that name."""
    _libc.getenv.restype = ctypes.c_char_p
    return _libc.getenv(name.encode()) is not None


def _argument(word: Word) -> object:
    if word == "zeros":
        return _ZEROS
    if isinstance(word, int):
        return ctypes.c_long(word)
    return ctypes.c_char_p(word if isinstance(word, bytes) else os.fsencode(word))
