# SPDX-License-Identifier: Apache-2.0
"""Committer of one new account: useradd with fixed arguments, its result compared with the request (provisioning.md 6).

Root, needs all of /etc, because the tools replace files there by rename. A run that was killed anywhere is finished by
the next one: what useradd did not come to write is added, and the home, which this process makes itself (useradd's own
can be half there for ever), exists whole or not at all.
"""

import datetime
import os
from collections.abc import Callable
from contextlib import suppress

from ipc.channel import Channel
from ipc.errors import CommitError
from ipc.messages import CommitAccount
from workers.committers import account_files as files
from workers.committers import atomic_file
from workers.committers.account_files import GROUP, GSHADOW, PASSWD, SHADOW, SUBGID, SUBUID, Snapshot
from workers.committers.account_leavings import clear_leavings
from workers.committers.account_tools import run_past_locks
from workers.committers.commit import Workplace, serve
from workers.committers.home_folder import LOGIN_DEFS, expect_room, make_home
from workers.committers.subordinate_ids import missing_ranges
from workers.committers.tools import Tools
from workers.companion import companion

NOBODY = 65534
SHARED_PRIMARY_GROUP = "users"
COMMENT_FIELD, EXPIRES_FIELD = 4, 7
DAY_0 = datetime.date(1970, 1, 1)


def make_account(request: CommitAccount, work: Workplace) -> str:
    """Make the account, or finish it, or find it done; CommitError when another one has its name."""
    name = request.user_name
    if name.startswith("-") or not name.isascii() or set(name) & set(":/,\\ \t\n\0"):
        raise CommitError("not a user name")
    if ":" in request.comment or not request.comment.isprintable():
        raise CommitError("the comment is not one line without a colon")
    expires = _day(request.expires)
    expect_room(work, request.home)
    clear_leavings(work.root)
    before = files.read(work.root)
    is_new = files.entry(before, PASSWD, name) is None
    if is_new and request.comment and os.path.lexists(work.at(request.home)):
        # Such an account goes again, with its home: that must not be what somebody has left.
        raise CommitError(f"{request.home} is there already, and is not for an account that will be removed with it")
    if is_new:
        _add(request, work, before)
    else:
        _finish_lines(request, work, before, expires)
    now = files.read(work.root)
    uid, gid = _check_account(now, request, is_new=is_new)
    _check_expiry(now, name, expires)
    made = make_home(work, request.home, uid, gid)
    if not made and os.lstat(work.at(request.home)).st_uid != uid:
        return f"account {name}, uid {uid}, gid {gid}; {request.home} was there and belongs to another uid"
    return f"account {name}, uid {uid}, gid {gid}"


def _day(expires: str) -> str:
    """The day as shadow(5) has it, counted from 1970; empty for none."""
    if not expires:
        return ""
    try:
        days = (datetime.date.fromisoformat(expires) - DAY_0).days
    except ValueError:
        days = -1
    if days < 0 or len(expires) != len("YYYY-MM-DD"):
        raise CommitError("the day of expiry is no date from 1970-01-01 on, written YYYY-MM-DD")
    return str(days)


def _add(request: CommitAccount, work: Workplace, before: Snapshot) -> None:
    name = request.user_name
    if files.entry(before, GROUP, name) is not None:
        raise CommitError(f"a group {name} exists already, with other rights than a new account's own group")
    comment = ("-c", request.comment) if request.comment else ()
    expires = ("-e", request.expires) if request.expires else ()
    outcome = run_past_locks(work.tools, "useradd", "-M", "-d", request.home, *comment, *expires, "--", name)
    after = files.read(work.root)
    if outcome.status != 0:
        if files.changed_files(before, after):
            _take_back(work, name)
        left = files.changed_files(before, files.read(work.root))
        work.wrote(*left)
        raise CommitError(f"useradd ended with status {outcome.status}: {outcome.output or 'no output'}")
    work.wrote(*files.changed_files(before, after))
    _check_new_lines(files.added_lines(before, after, name), before, request)


def _check_new_lines(added: dict[str, list[str]], before: Snapshot, request: CommitAccount) -> None:
    """Each new line is what a fresh account has: own uid, locked password, an empty group or none, nothing else."""
    name = request.user_name
    account = added.get(PASSWD, [])
    if len(account) != 7:
        raise CommitError(f"useradd made no line for {name} in {PASSWD}", changed=True)
    uid, gid = account[2], account[3]
    if any(line.split(":")[2:3] == [uid] for line in before[PASSWD]):
        raise CommitError(f"useradd gave {name} the uid {uid} of another account", changed=True)
    expected: dict[str, Callable[[list[str]], bool]] = {
        PASSWD: lambda fields: fields[1] == "x" and fields[COMMENT_FIELD] == request.comment,
        SHADOW: lambda fields: len(fields) == 9 and fields[1][:1] in ("!", "*"),
        GROUP: lambda fields: fields[2:] == [gid, ""],
        GSHADOW: lambda fields: fields[1:] in (["!", "", ""], ["*", "", ""]),
        SUBUID: lambda fields: len(fields) == 3,
        SUBGID: lambda fields: len(fields) == 3,
    }
    for path, fields in added.items():
        if not expected[path](fields):
            raise CommitError(f"useradd wrote an unexpected line for {name} in {path}", changed=True)


def _check_account(now: Snapshot, request: CommitAccount, *, is_new: bool) -> tuple[int, int]:
    """Uid and gid of the account, which must be the one proposed. An image's own may have any group but root's."""
    name = request.user_name
    fields = files.entry(now, PASSWD, name)
    if fields is None or len(fields) != 7 or not (fields[2].isdecimal() and fields[3].isdecimal()):
        raise CommitError(f"no usable line for {name} in {PASSWD}")
    uid, gid, home = int(fields[2]), int(fields[3]), fields[5]
    if uid < request.uid_min or uid == NOBODY or home != request.home:
        raise CommitError(f"account {name} has uid {uid} and home {home}, which is not what was proposed")
    if request.comment and fields[COMMENT_FIELD] != request.comment:
        raise CommitError(f"account {name} has another comment than {request.comment}: an ordinary account, left alone")
    group = next((line.split(":")[0] for line in now[GROUP] if line.split(":")[2:3] == [str(gid)]), name)
    if gid == 0 or (is_new and group not in (name, SHARED_PRIMARY_GROUP)):
        raise CommitError(f"account {name} has the primary group {group}, which is no new account's")
    return uid, gid


def _check_expiry(now: Snapshot, name: str, expires: str) -> None:
    found = _expiry(now, name)
    if expires and found != expires:
        raise CommitError(f"account {name} expires on day {found or 'never'} of {SHADOW}, not on day {expires}")


def _expiry(snapshot: Snapshot, name: str) -> str:
    return "".join((files.entry(snapshot, SHADOW, name) or [])[EXPIRES_FIELD : EXPIRES_FIELD + 1])


def _finish_lines(request: CommitAccount, work: Workplace, before: Snapshot, expires: str) -> None:
    """Useradd writes passwd, shadow, group, subordinate ids: add what it did not come to when it was killed."""
    name = request.user_name
    _, gid = _check_account(before, request, is_new=False)
    if files.entry(before, SHADOW, name) is None:
        _run(work, "pwconv")
    if all(line.split(":")[2:3] != [str(gid)] for line in before[GROUP]):
        _run(work, "groupadd", "-g", str(gid), "--", name)
    elif before[GSHADOW] and files.entry(before, GROUP, name) and not files.entry(before, GSHADOW, name):
        _run(work, "grpconv")
    finished = files.read(work.root)
    files.added_lines(before, finished, name)
    if expires and not _expiry(finished, name):
        _run(work, "usermod", "-e", request.expires, "--", name)
        files.replaced_field(finished, files.read(work.root), SHADOW, name, frozenset({EXPIRES_FIELD}))

    _lock_as_useradd_does(work, name)
    if not os.path.lexists(work.at(request.home)):
        _add_ranges(work, name)


def _lock_as_useradd_does(work: Workplace, name: str) -> None:
    """Where useradd says that there is no password, pwconv and grpconv write the x of the file that they begin with."""
    for path, tool, allowed in ((SHADOW, "usermod", {1, 2}), (GSHADOW, "groupmod", {1})):
        before = files.read(work.root)
        if (files.entry(before, path, name) or ["", ""])[1] == "x":
            _run(work, tool, "-p", "!", "--", name)
            files.replaced_field(before, files.read(work.root), path, name, frozenset(allowed))


def _add_ranges(work: Workplace, name: str) -> None:
    """The home is made after all lines: as long as there is none, useradd may have been killed before its last ones."""
    before = files.read(work.root)
    has_file = {path: work.at(path).exists() for path in (SUBUID, SUBGID)}
    settings = atomic_file.look(work.at(LOGIN_DEFS))
    options = missing_ranges(before, has_file, settings.content.decode("latin-1") if settings else "", name)
    if options:
        _run(work, "usermod", *options, "--", name)
        files.added_lines(before, files.read(work.root), name)


def _run(work: Workplace, tool: str, *arguments: str) -> None:
    before = files.read(work.root)
    outcome = run_past_locks(work.tools, tool, *arguments)
    work.wrote(*files.changed_files(before, files.read(work.root)))
    if outcome.status != 0:
        raise CommitError(f"{tool} ended with status {outcome.status}: {outcome.output or 'no output'}")


def _take_back(work: Workplace, name: str) -> None:
    """Remove the lines of a useradd that failed. What userdel says is no proof: the caller reads the files again."""
    with suppress(CommitError):  # why useradd failed is the better reason, and what it left is told with it
        run_past_locks(work.tools, "userdel", "--", name)


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry (workers.runtime)."""
    with companion() as ask_companion:
        serve(channel, lock, {CommitAccount: make_account}, Tools(ask_companion))
