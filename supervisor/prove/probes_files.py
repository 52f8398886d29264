# SPDX-License-Identifier: Apache-2.0
"""Owns attempts on files, folders and sockets by their paths, and on the descriptors that a worker is handed.

Runs in the attacking process. What is opened for writing is not written; what is made is made on the stage.
"""

import os
import socket
import stat
import struct

from supervisor.prove import raw
from supervisor.prove.attempt import NotSeen, Probe, Target

_FLAGS = {"read": os.O_RDONLY, "write": os.O_WRONLY, "make": os.O_WRONLY | os.O_CREAT | os.O_EXCL}


def opens(target: Target) -> None:
    """The descriptor of `path`, `to` be read, written, or made."""
    os.close(os.open(target.word("path"), _FLAGS[target.word("to")] | os.O_CLOEXEC, 0o600))


def lists(target: Target) -> None:
    """What is in a folder."""
    if not os.listdir(target.word("path")):
        raise NotSeen("an empty folder")


def removes(target: Target) -> None:
    """One file."""
    os.unlink(target.word("path"))


def renames(target: Target) -> None:
    """One file, away from its place."""
    os.rename(target.word("path"), target.word("to"))


def changes_mode(target: Target) -> None:
    """The mode that it has anyway: asking for it is what is refused."""
    os.chmod(target.word("path"), target.number("mode"))


def changes_owner(target: Target) -> None:
    """Of a file, by its path."""
    os.chown(target.word("path"), target.number("uid"), -1)


def makes_a_device(target: Target) -> None:
    """Of /dev/null, in a folder of the stage."""
    os.mknod(target.word("path"), stat.S_IFCHR | 0o600, os.makedev(1, 3))


def follows_a_planted_link(target: Target) -> None:
    """Make a link to what may not be read where one may write, and read through it."""
    os.symlink(target.word("path"), target.word("link"))
    os.close(os.open(target.word("link"), os.O_RDONLY | os.O_CLOEXEC))


def links_hard(target: Target) -> None:
    """A second name for a file of somebody else's."""
    os.link(target.word("path"), target.word("link"))


def connects(target: Target) -> None:
    """To a unix socket by its path, or by its abstract name where `path` begins with @."""
    kinds = {"stream": socket.SOCK_STREAM, "datagram": socket.SOCK_DGRAM, "packet": socket.SOCK_SEQPACKET}
    path = target.word("path")
    with socket.socket(socket.AF_UNIX, kinds[target.word("type")]) as peer:
        peer.connect("\0" + path[1:] if path.startswith("@") else path)


def opens_by_handle(_: Target) -> None:
    """A handle of nothing: whoever may use handles at all is told that it is stale."""
    raw.call("open_by_handle_at", -100, struct.pack("=Ii8x", 8, 1), 0)


def writes_through(target: Target) -> None:
    """Into a file that was handed over for reading."""
    os.write(target.file, b"x")


def reopens(target: Target) -> None:
    """What was handed over for reading, once more and for writing."""
    os.close(os.open(f"/proc/self/fd/{target.file}", os.O_WRONLY | os.O_CLOEXEC))


def truncates_through(target: Target) -> None:
    """A file that was handed over for reading."""
    os.ftruncate(target.file, 0)


def climbs(target: Target) -> None:
    """Out of a folder that was handed over."""
    os.close(os.open("../../../../../../etc/shadow", os.O_RDONLY | os.O_CLOEXEC, dir_fd=target.folder))


def looks_inside(target: Target) -> None:
    """Below a folder that was handed over, at a file that is root's alone."""
    os.close(os.open("inner", os.O_RDONLY | os.O_CLOEXEC, dir_fd=target.folder))


def makes_it_setuid(target: Target) -> None:
    """A file that was handed over, and back."""
    os.fchmod(target.file, 0o4755)
    os.fchmod(target.file, 0o600)


def gives_it_away(target: Target) -> None:
    """A file that was handed over, to its owner."""
    os.fchown(target.file, 0, 0)


PROBES: dict[str, Probe] = {
    "opens": opens,
    "lists": lists,
    "removes": removes,
    "renames": renames,
    "changes-mode": changes_mode,
    "changes-owner": changes_owner,
    "makes-a-device": makes_a_device,
    "follows-a-planted-link": follows_a_planted_link,
    "links-hard": links_hard,
    "connects": connects,
    "opens-by-handle": opens_by_handle,
    "writes-through": writes_through,
    "reopens": reopens,
    "truncates-through": truncates_through,
    "climbs": climbs,
    "looks-inside": looks_inside,
    "makes-it-setuid": makes_it_setuid,
    "gives-it-away": gives_it_away,
}
