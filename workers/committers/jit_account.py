# SPDX-License-Identifier: Apache-2.0
"""Committer that ends a JIT account, or moves its day of expiry (provisioning.md 11). Root; starts no program.

It must never touch an account that does not say of itself, in its comment, that it is one of these. A run that was
killed anywhere is finished by the next one: the line in passwd goes when nothing but the set aside home is left.
"""

import re
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from ipc.channel import Channel
from ipc.errors import CommitError
from ipc.messages.jit import COMMENT, ORDINARY, MoveJitExpiry, RemoveJitAccount
from workers.committers import account_files as files
from workers.committers import account_removal, atomic_file
from workers.committers.account_files import GROUP, PASSWD, SHADOW
from workers.committers.account_leavings import clear_leavings
from workers.committers.account_lock import LOCK_FILE, PATIENCE_S, account_lock
from workers.committers.account_processes import end_all
from workers.committers.commit import Workplace, serve
from workers.committers.home_removal import remove_set_aside, set_aside

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
NOBODIES = frozenset({65534, 65535, 0xFFFFFFFE, 0xFFFFFFFF})
MAIL_FOLDERS = ("/var/mail", "/var/spool/mail")


def remove_account(request: RemoveJitAccount, work: Workplace) -> str:
    """Remove it, or finish that, or find it done; CommitError when an account of that name is no JIT account."""
    name, home = request.user_name, f"{request.home_dir.rstrip('/')}/{request.user_name}"
    notes = []
    with _database(work, name):
        account = _account(work, name, request)
        if account is not None:
            notes.append(f"account {name}, uid {account[2]}, removed")
            _remove_lines(work, name, account[3])
    if account is not None:
        uid = int(account[2])
        ended = end_all(uid)
        notes += [f"{ended} processes ended"] if ended else []
        notes += [
            set_aside(work, home, uid) if account[5] == home else f"its home {account[5]} is not {home}: it stays"
        ]
        _remove_mailbox(work, name, uid)
        with _database(work, name):
            if files.entry(files.read(work.root), PASSWD, name) != account:
                raise CommitError(f"account {name} was changed while it was being removed")
            _rewrite(work, PASSWD, partial(account_removal.without, group=False), name)
    notes.append(remove_set_aside(work, home))
    return "; ".join(note for note in notes if note) or f"no account {name}"


def move_expiry(request: MoveJitExpiry, work: Workplace) -> str:
    """Have the day in shadow; CommitError when there is no such JIT account."""
    name = request.user_name
    with _database(work, name):
        if _account(work, name, request) is None or files.entry(files.read(work.root), SHADOW, name) is None:
            raise CommitError(f"there is no account {name}")
        _rewrite(work, SHADOW, partial(account_removal.with_day, day=request.day), name)
    day = time.strftime("%Y-%m-%d", time.gmtime(request.day * 86400))
    return f"account {name} expires in {SHADOW} on {day}"


@contextmanager
def _database(work: Workplace, name: str) -> Iterator[None]:
    """The lock that the distribution's tools take; what killed ones left goes first."""
    if not NAME.fullmatch(name):
        raise CommitError("not a user name")
    clear_leavings(work.root)
    with account_lock(work.at(LOCK_FILE), PATIENCE_S):
        yield


def _account(work: Workplace, name: str, request: RemoveJitAccount | MoveJitExpiry) -> list[str] | None:
    """Its fields in passwd; None if there is no such account, CommitError if it is not one of those."""
    now = files.read(work.root)
    fields = files.entry(now, PASSWD, name)
    if fields is None:
        return None
    if len(fields) != 7 or not _is_jit(fields, request.uid):
        raise CommitError(f"{name} {ORDINARY}, without the comment {COMMENT}: it is left alone")
    uid = int(fields[2]) if fields[2].isdecimal() else 0
    if uid < max(request.uid_min, 1) or uid in NOBODIES:
        raise CommitError(f"account {name} has uid {fields[2]}, which is no person's: it is left alone")
    others = [line.partition(":")[0] for line in now[PASSWD] if line.split(":")[2:3] == [fields[2]]]
    if others != [name]:
        raise CommitError(f"accounts {', '.join(others)} have the same uid {uid}: they are left alone")
    return fields


def _is_jit(fields: list[str], made_with: int) -> bool:
    """By its comment; one that its user has added to counts only with the uid that the account was made with."""
    name, comma, _ = fields[4].partition(",")
    return name == COMMENT and (not comma or (made_with > 0 and fields[2] == str(made_with)))


def _remove_lines(work: Workplace, name: str, gid: str) -> None:
    """All but the one in passwd."""
    now = files.read(work.root)
    own_group = account_removal.has_own_group(now[PASSWD], now[GROUP], name, gid)
    for path in account_removal.FIRST:
        _rewrite(work, path, partial(account_removal.without, group=own_group), name)


def _rewrite(work: Workplace, path: str, change: Callable[..., bytes], name: str) -> None:
    found = atomic_file.look(work.at(path))
    content = b"" if found is None else change(path, found.content, name)
    if found is not None and content != found.content:
        atomic_file.rewrite(work.at(path), content)
        work.wrote(path)


def _remove_mailbox(work: Workplace, name: str, uid: int) -> None:
    for folder in MAIL_FOLDERS:
        box = work.at(f"{folder}/{name}")
        try:
            status = box.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISREG(status.st_mode) and status.st_uid == uid:
            box.unlink()
            work.wrote(folder)


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry (workers.runtime)."""
    serve(channel, lock, {RemoveJitAccount: remove_account, MoveJitExpiry: move_expiry})
