# SPDX-License-Identifier: Apache-2.0
"""Committer of SSH keys below a home (provisioning.md 6). Becomes the account for good, then touches the home.

It must never open anything below the home while it holds more rights than the account: every folder and file there is
the account's to rearrange while this runs. Each path component is opened by openat2 in the folder before it, beneath it
and through no link, so nothing outside the home can be reached.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from ipc.channel import Channel
from ipc.descriptors import close_all, read_sealed
from ipc.errors import BadDescriptor, CommitError
from ipc.messages import CommitKeyPair, CommitKeys
from ipc.provided import Main, OpenBeneath, Provided
from workers.committers.commit import Workplace, perform
from workers.runtime import Answer, Handlers, serve_once

FOLDER_MODE = 0o700
# The reference leaves 0644; sshd reads the file as the account itself, so nobody else needs to.
FILE_MODE = 0o600
PUBLIC_MODE = 0o644
LARGEST = 1024 * 1024
LARGEST_PRIVATE_KEY = 64 * 1024
STATUS = Path("/proc/self/status")
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
CREATE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def place_keys(open_beneath: OpenBeneath, request: CommitKeys, work: Workplace) -> str:
    """Become the account, then add the keys that the file lacks, one line each."""
    become_account(request.uid, request.gid)
    return write_keys(request, work, open_beneath)


def place_pair(open_beneath: OpenBeneath, private_key: bytes, request: CommitKeyPair, work: Workplace) -> str:
    """Become the account, then write both halves, each in place of what stands there; the private one last."""
    become_account(request.uid, request.gid)
    if not private_key.startswith(b"-----BEGIN ") or "\n" in request.public_key or not request.public_key:
        raise CommitError("not a private key in PEM and a public key in one line")
    folder, path = _reach(request, work, open_beneath)
    try:
        halves = ((f"{path}.pub", f"{request.public_key}\n".encode(), PUBLIC_MODE), (path, private_key, FILE_MODE))
        due = [half for half in halves if _read(folder, half[0], open_beneath) != half[1:]]
        for place, content, mode in due:
            _write(folder, place, content, mode, open_beneath)
            work.wrote(place)
        return f"key pair at {path}" if due else f"the key pair was at {path} already"
    finally:
        os.close(folder)


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
    if any("\n" in key or "\r" in key or not key for key in request.keys):
        raise CommitError("a key is not one line")
    folder, path = _reach(request, work, open_beneath)
    try:
        return _add_lines(folder, path, request.keys, work, open_beneath)
    finally:
        os.close(folder)


def _reach(request: CommitKeys | CommitKeyPair, work: Workplace, open_beneath: OpenBeneath) -> tuple[int, str]:
    """The folder that the file is for, open and the account's alone, and the file's absolute path."""
    *folders, name = request.path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in (*folders, name)):
        raise CommitError(f"{request.path!r} is no path below a home")
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
    except (CommitError, OSError):
        os.close(folder)
        raise
    return folder, f"{reached}/{name}"


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


def _add_lines(folder: int, path: str, keys: tuple[str, ...], work: Workplace, open_beneath: OpenBeneath) -> str:
    old = _read(folder, path, open_beneath)[0]
    lines = old.decode("utf-8", "surrogateescape").split("\n")
    missing = [key for key in dict.fromkeys(keys) if key not in lines]
    if not missing:
        return f"all keys were in {path} already"
    separator = b"" if not old or old.endswith(b"\n") else b"\n"
    content = old + separator + "".join(f"{key}\n" for key in missing).encode()
    _write(folder, path, content, FILE_MODE, open_beneath)
    work.wrote(path)
    return f"{len(missing)} of {len(keys)} keys added to {path}"


def _write(folder: int, path: str, content: bytes, mode: int, open_beneath: OpenBeneath) -> None:
    """Have `content` in `path`, which lies in `folder`: beside it first, then renamed."""
    name = path.rpartition("/")[2]
    temporary = f".{name}.agent-supervisor"
    _remove(folder, temporary)
    try:
        descriptor = open_beneath(folder, temporary, CREATE_FLAGS, FILE_MODE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        _remove(folder, temporary)
        raise
    os.fsync(folder)


def _read(folder: int, path: str, open_beneath: OpenBeneath) -> tuple[bytes, int]:
    """Content and mode of `path`, which lies in `folder`; nothing and -1 if it is not there. CommitError for one that
    is not simply the account's own file."""
    try:
        descriptor = open_beneath(folder, path.rpartition("/")[2], READ_FLAGS, 0)
    except FileNotFoundError:
        return b"", -1
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
        return _read_all(descriptor), stat.S_IMODE(status.st_mode)
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
    handlers: Handlers = {CommitKeys: partial(_on_keys, open_beneath), CommitKeyPair: partial(_on_pair, open_beneath)}
    serve_once(channel, lock, handlers)


def _on_keys(open_beneath: OpenBeneath, request: CommitKeys, descriptors: tuple[int, ...]) -> Iterable[Answer]:
    close_all(descriptors)
    yield perform(partial(place_keys, open_beneath), request)


def _on_pair(open_beneath: OpenBeneath, request: CommitKeyPair, descriptors: tuple[int, ...]) -> Iterable[Answer]:
    try:
        if len(descriptors) != 1:
            raise BadDescriptor(f"{len(descriptors)} descriptors came where the private key was due")
        private_key = read_sealed(descriptors[0], LARGEST_PRIVATE_KEY)
    finally:
        close_all(descriptors)
    yield perform(partial(place_pair, open_beneath, private_key), request)
