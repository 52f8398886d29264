# SPDX-License-Identifier: Apache-2.0
"""Committer of SSH public keys below a home (provisioning.md 6). Becomes the account for good, then touches the home.

It must never open anything below the home while it holds more rights than the account: every folder and file there is
the account's to rearrange while this runs. Each path component is opened by openat2 in the folder before it, beneath it
and through no link, so nothing outside the home can be reached.
"""

import errno
import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ipc.channel import Channel
from ipc.errors import CommitError
from ipc.messages import CommitKeys
from ipc.provided import Main, OpenBeneath, Provided
from workers.committers.commit import Workplace, serve

FOLDER_MODE = 0o700
# The reference leaves 0644; sshd reads the file as the account itself, so nobody else needs to.
FILE_MODE = 0o600
LARGEST = 1024 * 1024
STATUS = Path("/proc/self/status")
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def place_keys(open_beneath: OpenBeneath, request: CommitKeys, work: Workplace) -> str:
    """Become the account, then add the keys that the file lacks, one line each."""
    become_account(request.uid, request.gid)
    return write_keys(request, work, open_beneath)


def become_account(uid: int, gid: int) -> None:
    """Take uid and gid in all their forms; CommitError unless the kernel shows that no way back is left."""
    os.chdir("/")
    os.umask(0o077)
    os.setgroups([gid])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    # Bytes: opening as text may import a codec, from files that this uid can no longer read.
    lines = STATUS.read_bytes().decode().splitlines()
    fields = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    if fields["Uid"] != [str(uid)] * 4 or fields["Gid"] != [str(gid)] * 4 or fields["Groups"] != [str(gid)]:
        raise CommitError(f"could not become uid {uid}, gid {gid}")
    if any(int(fields[kind][0], 16) for kind in ("CapPrm", "CapEff", "CapAmb")):
        raise CommitError("capabilities outlived the change of uid")


def write_keys(request: CommitKeys, work: Workplace, open_beneath: OpenBeneath) -> str:
    """Add the missing keys; runs with the account's rights only."""
    *folders, name = request.path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in (*folders, name)):
        raise CommitError(f"{request.path!r} is no path below a home")
    if any("\n" in key or "\r" in key or not key for key in request.keys):
        raise CommitError("a key is not one line")
    folder = _home(request.home, work)
    reached = request.home
    try:
        for part in folders:
            reached = f"{reached}/{part}"
            inner = _enter(folder, part, reached, work, open_beneath)
            os.close(folder)
            folder = inner
        if folders and stat.S_IMODE(os.fstat(folder).st_mode) != FOLDER_MODE:
            os.fchmod(folder, FOLDER_MODE)
            work.wrote(reached)
        return _add_lines(folder, f"{reached}/{name}", request, work, open_beneath)
    finally:
        os.close(folder)


def _home(home: str, work: Workplace) -> int:
    """The home itself: the way to it is root's, links and other file systems included."""
    try:
        return os.open(work.at(home), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise CommitError(f"the account's home {home} does not exist") from None
    except NotADirectoryError:
        raise CommitError(f"the account's home {home} is not a folder") from None


def _enter(folder: int, part: str, reached: str, work: Workplace, open_beneath: OpenBeneath) -> int:
    """The folder `part` in `folder`, made if missing."""
    try:
        inner = open_beneath(folder, part, FOLDER_FLAGS, 0)
    except FileNotFoundError:
        _make_folder(folder, part, reached)
        work.wrote(reached)
        inner = open_beneath(folder, part, FOLDER_FLAGS, 0)
    except OSError as error:
        # The kernel says the same of a link to a folder and of what is none.
        if error.errno in {errno.ENOTDIR, errno.ELOOP}:
            raise CommitError(
                f"{reached} is not a folder, or a link to one, and links are not followed there"
            ) from None
        raise
    if os.fstat(inner).st_uid != os.getuid():
        os.close(inner)
        raise CommitError(f"{reached} belongs to another account")
    return inner


def _make_folder(folder: int, part: str, reached: str) -> None:
    try:
        os.mkdir(part, FOLDER_MODE, dir_fd=folder)
    except PermissionError:
        owner = os.fstat(folder).st_uid
        above = f"{reached.rpartition('/')[0]}, which belongs to uid {owner}"
        raise CommitError(f"{reached} can't be made: the account may not write to {above}") from None


def _add_lines(folder: int, path: str, request: CommitKeys, work: Workplace, open_beneath: OpenBeneath) -> str:
    name = path.rpartition("/")[2]
    old = _read(folder, name, path, open_beneath)
    lines = old.decode("utf-8", "surrogateescape").split("\n")
    missing = [key for key in dict.fromkeys(request.keys) if key not in lines]
    if not missing:
        return f"all keys were in {path} already"
    separator = b"" if not old or old.endswith(b"\n") else b"\n"
    content = old + separator + "".join(f"{key}\n" for key in missing).encode()
    temporary = f".{name}.agent-supervisor"
    _remove(folder, temporary)
    try:
        descriptor = open_beneath(folder, temporary, CREATE_FLAGS, FILE_MODE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        _remove(folder, temporary)
        raise
    work.wrote(path)
    os.fsync(folder)
    return f"{len(missing)} of {len(request.keys)} keys added to {path}"


def _read(folder: int, name: str, path: str, open_beneath: OpenBeneath) -> bytes:
    """The file's content; CommitError for one that is not simply the account's own file."""
    try:
        descriptor = open_beneath(folder, name, READ_FLAGS, 0)
    except FileNotFoundError:
        return b""
    except PermissionError:
        raise CommitError(f"{path} is there, and the account may not read it") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise CommitError(f"{path} is a link, and links are not followed there") from None
        raise
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise CommitError(f"{path} is a folder or a device, not a plain file")
        if status.st_nlink != 1 or status.st_uid != os.getuid():
            raise CommitError(f"{path} is not a plain file of the account's own, or it has a second name")
        if status.st_size > LARGEST:
            raise CommitError(f"{path} is larger than {LARGEST} bytes")
        return _read_all(descriptor)
    finally:
        os.close(descriptor)


def _read_all(descriptor: int) -> bytes:
    pieces = []
    while piece := os.read(descriptor, LARGEST):
        pieces.append(piece)
    return b"".join(pieces)


def _remove(folder: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        return


def prepare(provided: Provided) -> Main:
    """The worker's main function, with the kernel's own way of opening a name in a folder and nowhere else."""
    return partial(main, provided.open_beneath)


def main(open_beneath: OpenBeneath, channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry (workers.runtime)."""
    serve(channel, lock, {CommitKeys: partial(place_keys, open_beneath)})
