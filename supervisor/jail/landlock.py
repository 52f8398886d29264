# SPDX-License-Identifier: Apache-2.0
"""Owns the Landlock ruleset of a profile, for the kernel's version of Landlock; runs in the child being confined.

What a version does not know is left out and told by `missing`; it never grants what a profile doesn't name.
"""

import errno
import os
import stat
import struct

from policy.profile import Profile
from supervisor.jail import syscalls
from supervisor.jail.missing import Missing

(
    EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE, MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK,
    MAKE_FIFO, MAKE_BLOCK, MAKE_SYM, REFER, TRUNCATE, IOCTL_DEV,
) = (1 << bit for bit in range(16))  # fmt: skip
ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV

_READ = READ_FILE | READ_DIR
_WRITE = WRITE_FILE | TRUNCATE | REFER | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_SYM
RIGHTS = {
    "ro": _READ,
    "rx": _READ | EXECUTE,
    "rw": _READ | _WRITE,
    "remove": READ_DIR | REMOVE_DIR | REMOVE_FILE,
    "tools": _READ | EXECUTE | _WRITE | MAKE_FIFO | IOCTL_DEV,
    # Connecting to a socket takes no right of Landlock's; the folder need not even be listed.
    "channel": 0,
}
_NET_BIND_AND_CONNECT, _NET_CONNECT = 3, 2
_SINCE = {"landlock": 1, "landlock-net": 4, "landlock-scope": 6}
_SCOPE_ABSTRACT_UNIX, _SCOPE_SIGNAL = 1, 2


def fits(profile: Profile) -> bool:
    """Whether Landlock can be applied: never to whoever inspects others, a landlocked process may not even look."""
    return "sys_ptrace" not in profile.capability_names


def restrict(profile: Profile) -> int:
    """Files read, written, made and run as `profile.paths` says and nowhere else (Landlock does not judge changes of
    mode and owner, nor connecting to a socket by its path); no TCP without a network of the host's, and with one
    only to the ports that the profile names, if it names any; signals and abstract sockets stay inside, except that a
    profile with the capability `kill` may signal others.

    A path that does not exist grants nothing. Returns the kernel's version of Landlock; Missing("landlock") if it
    has none."""
    abi = _abi()
    handled = _known_file_rights(abi)
    ports = profile.families.connect_ports
    network = _NET_BIND_AND_CONNECT if ports or "net" in profile.namespaces.new else 0
    scopes = _SCOPE_ABSTRACT_UNIX | (0 if "kill" in profile.capability_names else _SCOPE_SIGNAL)
    ruleset = syscalls.landlock_ruleset(_attributes(abi, handled, network, scopes))
    try:
        if profile.view == "own":
            # Folders on the way to a grant may be listed: there is nothing beside it. Python finds packages that way.
            _allow(ruleset, "/", READ_DIR)
        for grant in profile.paths:
            _allow(ruleset, grant.path, RIGHTS[grant.access] & handled)
        for port in ports if abi >= _SINCE["landlock-net"] else ():
            syscalls.landlock_allow_port(ruleset, port, _NET_CONNECT)
        syscalls.landlock_restrict(ruleset)
    finally:
        os.close(ruleset)
    return abi


def missing(abi: int) -> tuple[str, ...]:
    """What Landlock of version `abi` (0: none) can't do, as named in ipc.records.MECHANISMS."""
    return tuple(name for name, version in _SINCE.items() if abi < version)


def version() -> int:
    """The kernel's version of Landlock, 0 if it has none."""
    try:
        return _abi()
    except Missing:
        return 0


def _abi() -> int:
    try:
        return syscalls.landlock_abi()
    except OSError as error:
        if error.errno in {errno.ENOSYS, errno.EOPNOTSUPP}:
            raise Missing("landlock", str(error)) from None
        raise


def _known_file_rights(abi: int) -> int:
    later = (REFER if abi >= 2 else 0) | (TRUNCATE if abi >= 3 else 0) | (IOCTL_DEV if abi >= 5 else 0)
    return (REFER - 1) | later


def _attributes(abi: int, files: int, network: int, scopes: int) -> bytes:
    """Struct landlock_ruleset_attr, as long as version `abi` knows it."""
    if abi >= 6:
        return struct.pack("=QQQ", files, network, scopes)
    return struct.pack("=QQ", files, network) if abi >= 4 else struct.pack("=Q", files)


def _allow(ruleset: int, name: str, rights: int) -> None:
    if not rights:
        return
    try:
        path = os.open(name, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(path).st_mode):
            rights &= ON_FILES
        syscalls.landlock_allow_below(ruleset, path, rights)
    finally:
        os.close(path)
