# SPDX-License-Identifier: Apache-2.0
"""Owns the system calls that Python does not offer: numbers for two machines and thin wrappers; the one ctypes file.

Every wrapper raises OSError with the kernel's errno. It must never decide anything: meaning stands in its callers.
"""

import ctypes
import errno
import os
import struct

_X86_64 = {
    "bpf": 321,
    "capset": 126,
    "clone3": 435,
    "close_range": 436,
    "fallocate": 285,
    "landlock_add_rule": 445,
    "landlock_create_ruleset": 444,
    "landlock_restrict_self": 446,
    "mount": 165,
    "mount_setattr": 442,
    "move_mount": 429,
    "open_tree": 428,
    "openat2": 437,
    "pivot_root": 155,
    "prctl": 157,
    "seccomp": 317,
    "setns": 308,
    "umount2": 166,
    "unshare": 272,
}
_AARCH64 = {
    "bpf": 280,
    "capset": 91,
    "clone3": 435,
    "close_range": 436,
    "fallocate": 47,
    "landlock_add_rule": 445,
    "landlock_create_ruleset": 444,
    "landlock_restrict_self": 446,
    "mount": 40,
    "mount_setattr": 442,
    "move_mount": 429,
    "open_tree": 428,
    "openat2": 437,
    "pivot_root": 41,
    "prctl": 167,
    "seccomp": 277,
    "setns": 268,
    "umount2": 39,
    "unshare": 97,
}
# Looked up once: a locked worker, which still has to load its second filter, may not call uname.
_NUMBERS = {"x86_64": _X86_64, "aarch64": _AARCH64}.get(os.uname().machine, {})

_CAPABILITY_VERSION_3 = 0x20080522
_PR_GET_TID_ADDRESS = 40
_CLONE_INTO_CGROUP = 0x200000000
_CLONE_CHILD_SETTID = 0x01000000
_CLONE_CHILD_CLEARTID = 0x00200000
_SIGCHLD = 17
_AT_FDCWD = -100
_MOVE_MOUNT_F_EMPTY_PATH, _MOVE_MOUNT_SET_GROUP = 0x4, 0x100
_BPF_PROG_LOAD, _BPF_PROG_ATTACH, _BPF_LINK_CREATE = 5, 8, 28
_BPF_F_ALLOW_MULTI = 2
_OPEN_TREE_CLONE, _AT_RECURSIVE, _MOUNT_ATTR_RDONLY = 1, 0x8000, 1

# PyDLL keeps the interpreter's lock over a call: fork_into needs that, and the others take microseconds.
_libc = ctypes.PyDLL(None, use_errno=True)
_Argument = int | bytes | None


def _call(name: str, *arguments: _Argument) -> int:
    """The result of system call `name`; OSError when it fails."""
    words = [ctypes.c_long(word) if isinstance(word, int) else ctypes.c_char_p(word) for word in arguments]
    result: int = _libc.syscall(ctypes.c_long(call_number(name)), *words)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    """Leave the namespaces named by the CLONE_NEW* bits of `flags` for new ones."""
    _call("unshare", flags)


def setns(descriptor: int, kind: int) -> None:
    """Enter the namespace behind `descriptor`; `kind` is its CLONE_NEW* bit."""
    _call("setns", descriptor, kind)


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """Mount; `flags` are MS_* bits."""
    _call("mount", _text(source), _text(target), _text(kind), flags, _text(options))


def unmount(target: str, flags: int) -> None:
    """Unmount; `flags` are MNT_* bits."""
    _call("umount2", _text(target), flags)


def share_as(mount_point: int, path: str) -> None:
    """Give the private mount at `path` the mount events of the mount whose root is the descriptor `mount_point`.

    MOVE_MOUNT_SET_GROUP, from Linux 5.15 on."""
    _call("move_mount", mount_point, b"", _AT_FDCWD, _text(path), _MOVE_MOUNT_SET_GROUP | _MOVE_MOUNT_F_EMPTY_PATH)


def clone_tree(path: str) -> int:
    """A descriptor of a copy of the mounts at and below `path`, attached nowhere yet; from Linux 5.2 on."""
    return _call("open_tree", _AT_FDCWD, _text(path), _OPEN_TREE_CLONE | _AT_RECURSIVE | os.O_CLOEXEC)


def attach_tree(tree: int, path: str) -> None:
    """Put the mounts of `clone_tree` at `path`."""
    _call("move_mount", tree, b"", _AT_FDCWD, _text(path), _MOVE_MOUNT_F_EMPTY_PATH)


def make_read_only(path: str) -> None:
    """Every mount at and below `path`, those that others cover too; from Linux 5.12 on."""
    attributes = struct.pack("=QQQQ", _MOUNT_ATTR_RDONLY, 0, 0, 0)
    _call("mount_setattr", _AT_FDCWD, _text(path), _AT_RECURSIVE, attributes, len(attributes))


def pivot_root(new: str, old: str) -> None:
    """Make `new` the root and put the old one at `old`."""
    _call("pivot_root", _text(new), _text(old))


def prctl(option: int, *words: int) -> int:
    """The prctl options that python-prctl does not know."""
    return _call("prctl", option, *words, *(0,) * (4 - len(words)))


def capset(effective: int, permitted: int, inheritable: int) -> None:
    """Set the calling thread's three capability sets to exactly these masks."""
    sets = (effective, permitted, inheritable)
    words = [word & 0xFFFFFFFF for word in sets] + [word >> 32 for word in sets]
    _call("capset", struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), struct.pack("=6I", *words))


def close_range(first: int, last: int) -> None:
    """Close the descriptors from `first` to `last`; where the call is missing, one by one up to the process's limit."""
    try:
        _call("close_range", first, last, 0)
    except OSError:
        os.closerange(first, min(last + 1, os.sysconf("SC_OPEN_MAX")))


def fallocate(descriptor: int, mode: int, offset: int, size: int) -> None:
    """Change the room that a file has on disk; `mode` are FALLOC_FL_* bits."""
    _call("fallocate", descriptor, mode, offset, size)


def openat2(folder: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    """Open `path` below the descriptor `folder`; `resolve` are RESOLVE_* bits. The caller owns the descriptor."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, resolve)
    return _call("openat2", folder, _text(path), how, len(how))


def landlock_abi() -> int:
    """The kernel's Landlock version, from 1."""
    return _call("landlock_create_ruleset", None, 0, 1)


def landlock_ruleset(attributes: bytes) -> int:
    """A descriptor of a new ruleset; `attributes` is struct landlock_ruleset_attr."""
    return _call("landlock_create_ruleset", attributes, len(attributes), 0)


def landlock_allow_below(ruleset: int, path: int, rights: int) -> None:
    """Allow `rights` at and below the descriptor `path`."""
    _call("landlock_add_rule", ruleset, 1, struct.pack("=Qi", rights, path), 0)


def landlock_allow_port(ruleset: int, port: int, rights: int) -> None:
    """A rule of type LANDLOCK_RULE_NET_PORT."""
    _call("landlock_add_rule", ruleset, 2, struct.pack("=QQ", rights, port), 0)


def landlock_restrict(ruleset: int) -> None:
    """Put the calling thread under `ruleset` for good."""
    _call("landlock_restrict_self", ruleset, 0)


def seccomp_filter(program: bytes, flags: int) -> int:
    """Load a filter (array of struct sock_filter); with TSYNC a positive result is the thread that could not follow."""
    code = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    return _call("seccomp", 1, flags, head)


def bpf_program(kind: int, attach_type: int, program: bytes, name: bytes) -> int:
    """A descriptor of a program (array of struct bpf_insn) of type `kind`, for that place; the kernel verifies it."""
    code, terms = ctypes.create_string_buffer(program, len(program)), ctypes.create_string_buffer(b"GPL")
    head = struct.pack("=IIQQ", kind, len(program) // 8, ctypes.addressof(code), ctypes.addressof(terms))
    # No log of the verifier, any kernel's version, no flags, no network card.
    attributes = head + struct.pack("=IIQII16sII", 0, 0, 0, 0, 0, name, 0, attach_type)
    return _call("bpf", _BPF_PROG_LOAD, attributes, len(attributes))


def bpf_link(program: int, cgroup: int, attach_type: int) -> int:
    """A descriptor that keeps `program` attached to the cgroup whose folder is open as `cgroup`; from Linux 5.7 on."""
    attributes = struct.pack("=IIII", program, cgroup, attach_type, 0)
    return _call("bpf", _BPF_LINK_CREATE, attributes, len(attributes))


def bpf_attach(program: int, cgroup: int, attach_type: int) -> None:
    """Attach `program` beside others to the cgroup whose folder is open as `cgroup`, for as long as that exists."""
    attributes = struct.pack("=IIII", cgroup, program, attach_type, _BPF_F_ALLOW_MULTI)
    _call("bpf", _BPF_PROG_ATTACH, attributes, len(attributes))


def call_number(name: str) -> int:
    """Of a system call on this machine. OSError where it is not known."""
    if name not in _NUMBERS:
        raise OSError(errno.ENOSYS, f"{name}: no system call number for this machine")
    return _NUMBERS[name]


def trim_heap() -> None:
    """Give free pages at the heap's ends back to the kernel; nothing happens where the C library has no such call."""
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(0)


def fork_into(cgroup: int) -> int:
    """Like os.fork, but the child is born in the v2 cgroup whose folder is open as `cgroup`.

    Joining afterwards makes the kernel wait for a grace period (about 10 ms); this does not. Only while the process has
    one thread: the C library's own fork handlers don't run. OSError(ENOSYS, EINVAL) before Linux 5.7."""
    place = ctypes.c_ulong()
    # The C library keeps a thread's id there; it has to learn the child's, as its own fork would see to.
    _libc.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(place), 0, 0, 0)
    flags = _CLONE_INTO_CGROUP | (_CLONE_CHILD_SETTID | _CLONE_CHILD_CLEARTID if place.value else 0)
    arguments = struct.pack("=11Q", flags, 0, place.value, 0, _SIGCHLD, 0, 0, 0, 0, 0, cgroup)
    ctypes.pythonapi.PyOS_BeforeFork()
    try:
        pid = _call("clone3", arguments, len(arguments))
    except OSError:
        ctypes.pythonapi.PyOS_AfterFork_Parent()
        raise
    if pid == 0:
        ctypes.pythonapi.PyOS_AfterFork_Child()
    else:
        ctypes.pythonapi.PyOS_AfterFork_Parent()
    return pid


def _text(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)
