# SPDX-License-Identifier: Apache-2.0
"""Owns what this machine is, for the host's ears: name, distribution, kernel, size.

Runs in the supervisor. Made while files of /etc can still be opened; later only the host name is read anew.
"""

import os
import sys

import msgspec

from supervisor.kernel_view import read

OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")
HOST_NAME = "/proc/sys/kernel/hostname"
KERNEL = "/proc/sys/kernel/osrelease"
MEMORY = "/proc/meminfo"


class Machine(msgspec.Struct, frozen=True):
    """By os-release (`name` is its ID, such as debian) and the kernel; `processor` is x86_64, aarch64 or the like.

    What can't be read is empty or 0."""

    name: str
    version: str
    code_name: str
    kernel: str
    processor: str
    processors: int
    memory_mib: int

    @property
    def os_version(self) -> str:
        """As telemetry's OSVersion has it (wire-protocol.md 11)."""
        return f"Linux:{self.name}-{self.version}-{self.code_name}:{self.kernel}"


def look(root: str = "") -> Machine:
    """This machine; `root` is put before every path."""
    text = next(filter(None, (_text(f"{root}{path}") for path in OS_RELEASE)), "")
    release = parse_os_release(text)
    return Machine(
        name=release.get("ID", "linux"),
        version=release.get("VERSION_ID", ""),
        code_name=release.get("VERSION_CODENAME", ""),
        kernel=_text(f"{root}{KERNEL}").strip(),
        # uname is not among the calls of a supervisor at work.
        processor=getattr(sys.implementation, "_multiarch", "").partition("-")[0],
        processors=os.cpu_count() or 1,
        memory_mib=memory_mib(_text(f"{root}{MEMORY}"), "MemTotal"),
    )


def host_name(root: str = "") -> str:
    """The host name that the kernel has now."""
    return _text(f"{root}{HOST_NAME}").strip()


def memory_text(root: str = "") -> str:
    """/proc/meminfo as it is now."""
    return _text(f"{root}{MEMORY}")


def memory_mib(meminfo: str, name: str) -> int:
    """The line `name` of /proc/meminfo's text in MiB; 0 when there is none."""
    for line in meminfo.splitlines():
        key, _, value = line.partition(":")
        words = value.split()
        if key == name and words and words[0].isdecimal():
            return int(words[0]) // 1024
    return 0


def parse_os_release(text: str) -> dict[str, str]:
    """os-release(5): NAME=value, perhaps in quotes. Lines that are none are left out."""
    lines = (line.strip().partition("=") for line in text.splitlines())
    return {name: value.strip("\"'") for name, assigned, value in lines if assigned and not name.startswith("#")}


def _text(path: str) -> str:
    try:
        return read(path)
    except OSError:
        return ""
