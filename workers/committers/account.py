# SPDX-License-Identifier: Apache-2.0
"""Committer of one new account: useradd with fixed arguments, its result compared with the request (provisioning.md 6).

Root, needs all of /etc, because the tools replace files there by rename. A run that was killed anywhere is finished by
the next one: what useradd did not come to write is added, and the home, which this process makes itself (useradd's own
can be half there for ever), exists whole or not at all.
"""

import os
from collections.abc import Callable

from ipc.channel import Channel
from ipc.errors import CommitError
from ipc.messages import CommitAccount
from workers.committers import account_files as files
from workers.committers.account_files import GROUP, GSHADOW, PASSWD, SHADOW, SUBGID, SUBUID, Snapshot
from workers.committers.account_tools import run_past_locks
from workers.committers.commit import Workplace, serve
from workers.committers.home_folder import make_home

NOBODY = 65534
SHARED_PRIMARY_GROUP = "users"


def make_account(request: CommitAccount, work: Workplace) -> str:
    """Make the account, or finish it, or find it done; CommitError when another one has its name."""
    name = request.user_name
    if name.startswith("-") or not name.isascii() or set(name) & set(":/,\\ \t\n\0"):
        raise CommitError("not a user name")
    before = files.read(work.root)
    if files.entry(before, PASSWD, name) is None:
        _add(request, work, before)
    else:
        _finish_lines(request, work, before)
    uid, gid = _check_account(files.read(work.root), request)
    made = make_home(work, request.home, uid, gid)
    if not made and os.lstat(work.at(request.home)).st_uid != uid:
        return f"account {name}, uid {uid}, gid {gid}; {request.home} was there and belongs to another uid"
    return f"account {name}, uid {uid}, gid {gid}"


def _add(request: CommitAccount, work: Workplace, before: Snapshot) -> None:
    name = request.user_name
    if files.entry(before, GROUP, name) is not None:
        raise CommitError(f"a group {name} exists already, with other rights than a new account's own group")
    outcome = run_past_locks(work.tools, "useradd", "-M", "-d", request.home, "--", name)
    after = files.read(work.root)
    if outcome.status != 0:
        if files.changed_files(before, after):
            _take_back(work, name)
        raise CommitError(
            f"useradd ended with status {outcome.status}: {outcome.output or 'no output'}",
            changed=bool(files.changed_files(before, files.read(work.root))),
        )
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
        PASSWD: lambda fields: fields[1] == "x",
        SHADOW: lambda fields: len(fields) == 9 and fields[1][:1] in ("!", "*"),
        GROUP: lambda fields: fields[2:] == [gid, ""],
        GSHADOW: lambda fields: fields[1:] in (["!", "", ""], ["*", "", ""]),
        SUBUID: lambda fields: len(fields) == 3,
        SUBGID: lambda fields: len(fields) == 3,
    }
    for path, fields in added.items():
        if not expected[path](fields):
            raise CommitError(f"useradd wrote an unexpected line for {name} in {path}", changed=True)


def _check_account(now: Snapshot, request: CommitAccount) -> tuple[int, int]:
    """Uid and gid of the account, which must be the one proposed."""
    name = request.user_name
    fields = files.entry(now, PASSWD, name)
    if fields is None or len(fields) != 7 or not (fields[2].isdecimal() and fields[3].isdecimal()):
        raise CommitError(f"no usable line for {name} in {PASSWD}")
    uid, gid, home = int(fields[2]), int(fields[3]), fields[5]
    if uid < request.uid_min or uid == NOBODY or home != request.home:
        raise CommitError(f"account {name} has uid {uid} and home {home}, which is not what was proposed")
    group = next((line.split(":")[0] for line in now[GROUP] if line.split(":")[2:3] == [str(gid)]), name)
    if gid == 0 or group not in (name, SHARED_PRIMARY_GROUP):
        raise CommitError(f"account {name} has the primary group {group}, which is no new account's")
    return uid, gid


def _finish_lines(request: CommitAccount, work: Workplace, before: Snapshot) -> None:
    """Useradd writes passwd, shadow, group in this order: add what it did not come to when it was killed.

    The ranges of subordinate ids, its last lines of all, are not made up for: nothing tells that they were to come."""
    name = request.user_name
    _, gid = _check_account(before, request)
    if files.entry(before, SHADOW, name) is None:
        _run(work, "pwconv")
    if all(line.split(":")[2:3] != [str(gid)] for line in before[GROUP]):
        _run(work, "groupadd", "-g", str(gid), "--", name)
    elif before[GSHADOW] and files.entry(before, GROUP, name) and not files.entry(before, GSHADOW, name):
        _run(work, "grpconv")
    files.added_lines(before, files.read(work.root), name)


def _run(work: Workplace, tool: str, *arguments: str) -> None:
    before = files.read(work.root)
    outcome = run_past_locks(work.tools, tool, *arguments)
    work.wrote(*files.changed_files(before, files.read(work.root)))
    if outcome.status != 0:
        raise CommitError(f"{tool} ended with status {outcome.status}: {outcome.output or 'no output'}")


def _take_back(work: Workplace, name: str) -> None:
    """Remove the lines of a useradd that failed. What userdel says is no proof: the caller reads the files again."""
    run_past_locks(work.tools, "userdel", "--", name)


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry (workers.runtime)."""
    serve(channel, lock, {CommitAccount: make_account})
