# SPDX-License-Identifier: Apache-2.0
"""Owns what only the process itself can be asked: its filters, secure bits, Landlock, dumpable and the like.

Stops each thread for milliseconds (ptrace.py). A call that it makes there opens at most what it closes again, sends
nothing and changes nothing, also where the control that is to refuse it should be missing.
"""

import errno
import os
import socket
import struct

import msgspec

from policy.profile import Profile
from supervisor.audit import ptrace
from supervisor.audit.ptrace import TEXT, Gone, Held, Unseen

_GET_DEATH_SIGNAL, _GET_DUMPABLE, _GET_SECURE_BITS, _GET_NO_WRITABLE_CODE = 2, 3, 27, 66
_AT_FDCWD = -100
_PROBED_NODE = ".agent-supervisor-audit"
_BLOCK_DEVICE = 0o060600


class Probe(msgspec.Struct, frozen=True):
    """An act that Landlock refuses to a process of this policy, and nothing else does before it; `folder` is where
    something is to be made; `refused` the errno of Landlock's refusal, `untold` one that somebody else gave first."""

    act: str
    what: str
    folder: str = ""
    refused: int = errno.EACCES
    untold: int = 0


class DeepThread(msgspec.Struct, frozen=True):
    """One thread. `landlock` is the errno that refused the probe, 0 when it was carried out, None when not tried.

    `why` tells what could not be looked at."""

    tid: int
    filters: tuple[bytes, ...] | None = None
    secure_bits: int | None = None
    landlock: int | None = None
    why: str = ""


class Deep(msgspec.Struct, frozen=True):
    """A process; what belongs to it as a whole was asked of its first thread. None: not observable."""

    threads: tuple[DeepThread, ...]
    probe: Probe | None = None
    dumpable: int | None = None
    no_writable_code: int | None = None
    death_signal: int | None = None

    @property
    def why(self) -> str:
        """Why something was not observable, in the words of the first thread that has some."""
        return next((thread.why for thread in self.threads if thread.why), "")


def probe_for(profile: Profile, version: int) -> Probe | None:
    """The probe that tells whether a process of that policy is under Landlock of that `version`; None without one."""
    readable = [grant.path for grant in profile.paths if grant.access in {"ro", "rx", "rw", "tools"}]
    writable = [grant.path for grant in profile.paths if grant.access in {"rw", "tools"}]
    if profile.view == "host" and "mount" not in profile.namespaces.new and not _covers(writable, "/proc"):
        return Probe("write", "/proc/self/comm")
    if profile.view == "host" and not _covers(readable, "/proc"):
        return Probe("read", "/proc/version")
    if "net" in profile.namespaces.new:
        return Probe("bind", "a TCP port of its empty network") if version >= 4 else None
    if writable and "mknod" not in profile.capability_names:
        # Where it may write: elsewhere its mounts would refuse it first.
        return Probe("make", "a block device node", writable[0], untold=errno.EROFS)
    if version >= 6:
        # This command listens there, in the machine's network, which is that process's too.
        return Probe("reach", "an abstract socket of another's", "", errno.EPERM, errno.ECONNREFUSED)
    return None


def look(pid: int, tids: "list[int]", probe: Probe | None) -> Deep | None:
    """What the threads of a process tell; None when it ended meanwhile."""
    threads = []
    whole: dict[str, int] = {}
    for tid in sorted(tids, key=lambda tid: tid != pid):
        try:
            thread, told = _stop(tid, probe, is_first=tid == pid)
        except Gone:
            if tid == pid:
                return None
            continue
        threads.append(thread)
        whole |= told
    return Deep(tuple(threads), probe, **whole)


def _stop(tid: int, probe: Probe | None, *, is_first: bool) -> tuple[DeepThread, dict[str, int]]:
    """What one thread tells, the first one of its process as well."""
    try:
        with ptrace.held(tid) as thread:
            looked = _look(tid, thread, probe)
            return looked, _look_at_whole(thread) if is_first and not looked.why else {}
    except Unseen as unseen:
        return DeepThread(tid, why=str(unseen)), {}
    except OSError as error:
        return DeepThread(tid, why=f"the kernel does not let it be looked at: {error.strerror}"), {}


def _look(tid: int, thread: Held, probe: Probe | None) -> DeepThread:
    filters: tuple[bytes, ...] | None = None
    try:
        filters = thread.filters()
        bits = thread.call("prctl", _GET_SECURE_BITS)
        refused = _try(thread, probe) if probe is not None else None
    except Unseen as unseen:
        return DeepThread(tid, filters, why=str(unseen))
    return DeepThread(tid, filters, bits, refused)


def _look_at_whole(thread: Held) -> dict[str, int]:
    found = {"dumpable": thread.call("prctl", _GET_DUMPABLE)}
    bits = thread.call("prctl", _GET_NO_WRITABLE_CODE, 0, 0, 0, 0)
    if bits >= 0:
        found["no_writable_code"] = bits
    if thread.call("prctl", _GET_DEATH_SIGNAL, TEXT, text=bytes(8)) == 0:
        found["death_signal"] = int.from_bytes(thread.room(4), "little")
    return found


def _try(thread: Held, probe: Probe) -> int | None:
    """The errno that the probe met, 0 when nothing refused it, None when that tells nothing of Landlock."""
    met = _met(thread, probe)
    return None if met and met == probe.untold else met


def _met(thread: Held, probe: Probe) -> int:
    if probe.act == "bind":
        made = thread.call("socket", socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC, 0)
        if made < 0:
            return -made
        any_port = struct.pack("=HH4s8x", socket.AF_INET, 0, bytes(4))
        result = thread.call("bind", made, TEXT, len(any_port), text=any_port)
        thread.call("close", made)
        return -result
    if probe.act == "reach":
        return _reach(thread)
    if probe.act == "make":
        # Without CAP_MKNOD none is made, whatever Landlock says: the errno tells who refused it.
        node = f"{probe.folder}/{_PROBED_NODE}\0".encode()
        result = thread.call("mknodat", _AT_FDCWD, TEXT, _BLOCK_DEVICE, 0, text=node)
        return -result
    flags = (os.O_WRONLY if probe.act == "write" else os.O_RDONLY) | os.O_CLOEXEC
    opened = thread.call("openat", _AT_FDCWD, TEXT, flags, 0, text=probe.what.encode() + b"\0")
    if opened >= 0:
        thread.call("close", opened)
        return 0
    return -opened


def _reach(thread: Held) -> int:
    """The errno of a connection to a socket that is made for it, 0 when there was one; nothing is sent."""
    made = thread.call("socket", socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC, 0)
    if made < 0:
        return -made
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as ours:
        # The kernel chooses the name.
        ours.bind("")
        ours.listen(1)
        address = struct.pack("=H", socket.AF_UNIX) + ours.getsockname()
        result = thread.call("connect", made, TEXT, len(address), text=address)
        thread.call("close", made)
    return -result


def _covers(paths: "list[str]", path: str) -> bool:
    return any(path == one or path.startswith(f"{one.rstrip('/')}/") for one in paths)
