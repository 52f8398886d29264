# SPDX-License-Identifier: Apache-2.0
"""Committer of one line in the sudoers folder's `waagent` file (provisioning.md 6). Root, needs /etc.

Nothing takes effect before it was checked: the new file is prepared under a name that sudo passes over, checked by
visudo (where there is one), then renamed. It must never write a line whose meaning depends on what stands around it.
"""

import os
import posixpath
import re
import stat
from collections.abc import Callable
from pathlib import Path

from ipc.channel import Channel
from ipc.errors import CommitError
from ipc.messages import CommitSudo
from ipc.messages.jit import WithdrawSudo
from workers.committers import atomic_file
from workers.committers.commit import Workplace, serve
from workers.committers.tools import Tools
from workers.companion import companion

FILE_NAME = "waagent"
MODE = 0o440
FOLDER_MODE = 0o750
# Words that sudo would not read as the name of one user.
RESERVED = frozenset({"ALL", "Defaults", "User_Alias", "Runas_Alias", "Host_Alias", "Cmnd_Alias", "Cmd_Alias"})
USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")
INCLUDE = re.compile(r"\s*[#@]includedir\s+(?:\"([^\"]+)\"|(\S+))\s*(?:#.*)?")


def grant_sudo(request: CommitSudo, work: Workplace) -> str:
    """Have the one line for the account, and not its other form; other lines stay. CommitError when the outcome would
    not be a valid sudoers file."""
    name, folder = request.user_name, request.paths.sudoers_dir
    if not USER.fullmatch(name) or name in RESERVED:
        raise CommitError("not a name that sudoers reads as one user")
    note = _ensure_folder(folder, work)
    target = f"{folder}/{FILE_NAME}"
    found = atomic_file.look(work.at(target))
    content = granted(found.content if found else b"", name, without_password=request.without_password)
    if found is not None and found.content == content and _is_right(found.status):
        return f"sudoers line of {name} was there already{note}"
    _install(work, target, content)
    return f"sudoers line of {name} written{note}"


def withdraw_sudo(request: WithdrawSudo, work: Workplace) -> str:
    """Have no line of ours for the account; other lines stay, and a file without any goes."""
    name, target = request.user_name, f"{request.sudoers_dir}/{FILE_NAME}"
    if not USER.fullmatch(name) or name in RESERVED:
        raise CommitError("not a name that sudoers reads as one user")
    found = atomic_file.look(work.at(target))
    content = withdrawn(found.content, name) if found else b""
    if found is None or content == found.content:
        return f"no sudoers line of {name}"
    if content.strip():
        _install(work, target, content)
    else:
        work.at(target).unlink()
        work.wrote(request.sudoers_dir)
    return f"sudoers line of {name} removed"


def withdrawn(old: bytes, name: str) -> bytes:
    """The file `old` without the lines of ours for `name`, in either form."""
    words = [_rule(name, without_password=form).split() for form in (True, False)]
    lines = old.split(b"\n")
    whole = [not before.endswith(b"\\") for before in (b"", *lines)]
    return b"\n".join(text for number, text in enumerate(lines) if text.split() not in words or not whole[number])


def granted(old: bytes, name: str, *, without_password: bool) -> bytes:
    """The file `old` with exactly one line of ours for `name`: where the first one stood, or at the end."""
    forms = {form: _rule(name, without_password=form) for form in (True, False)}
    line, words = forms[without_password], [form.split() for form in forms.values()]
    lines = old.split(b"\n") if old else []
    # Of a line that goes on in the next one, neither is what it seems.
    whole = [not before.endswith(b"\\") for before in (b"", *lines)]
    ours = [number for number, text in enumerate(lines) if text.split() in words and whole[number]]
    if ours:
        lines[ours[0]] = line
        return b"\n".join(text for number, text in enumerate(lines) if number not in ours[1:])
    if lines and not lines[-1]:
        lines.pop()
    # After a last line that goes on, an empty one ends it.
    return b"\n".join([*lines, *([] if whole[len(lines)] else [b""]), line, b""])


def _rule(name: str, *, without_password: bool) -> bytes:
    return f"{name} ALL=(ALL) {'NOPASSWD: ' if without_password else ''}ALL".encode()


def _is_right(status: os.stat_result) -> bool:
    """Whether sudo takes it: never one that others own or may write to."""
    return (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (MODE, 0, 0)


def _install(work: Workplace, target: str, content: bytes) -> None:
    path = work.at(target)
    _checked(work, atomic_file.prepare(path, content, MODE), path)
    work.wrote(target)


def _checked(work: Workplace, temporary: Path, path: Path) -> None:
    """Put `temporary` in the place of `path` if it is valid; remove it if not."""
    try:
        _check(work, temporary)
    except CommitError:
        temporary.unlink()
        raise
    atomic_file.put_in_place(temporary, path)


def _check(work: Workplace, temporary: Path) -> None:
    """Without visudo there is no sudo either; the line itself comes from a fixed pattern."""
    if work.tools.find("visudo"):
        outcome = work.tools.run("visudo", "-c", "-f", str(temporary))
        if outcome.status != 0:
            raise CommitError(f"visudo refuses the new sudoers file, the old one stays: {outcome.output}")


def _ensure_folder(folder: str, work: Workplace) -> str:
    """A missing folder is named in the sudoers file beside it first, then made: a run killed in between is repeated.
    One that is there is left to whoever set it up; that nothing reads it is said."""
    path = work.at(folder)
    main_file = f"{folder.rpartition('/')[0]}/sudoers"
    found = atomic_file.look(work.at(main_file).resolve())  # some systems have a link there, as sudo may follow
    if found is None:
        note = f"; there is no {main_file}: sudo is not installed"
    elif is_included(found.content.decode("utf-8", "replace"), main_file, folder):
        note = ""
    elif path.is_dir():
        note = f"; {main_file} does not itself include {folder}"
    else:
        _include(folder, main_file, found.content, work)
        note = f"; {folder} made and included in {main_file}"
    if not path.is_dir():
        path.mkdir(mode=FOLDER_MODE, parents=True)
        path.chmod(FOLDER_MODE)
        work.wrote(folder)
    return note


def is_included(text: str, main_file: str, folder: str) -> bool:
    """Whether a sudoers file says so, in the old words or in the new ones; a relative path is beside the file."""
    beside = posixpath.dirname(main_file)
    named = [match[1] or match[2] for match in map(INCLUDE.fullmatch, text.splitlines()) if match]
    return any(posixpath.normpath(posixpath.join(beside, path)) == folder for path in named)


def _include(folder: str, main_file: str, old: bytes, work: Workplace) -> None:
    if not re.fullmatch(r"(/[A-Za-z0-9_.-]+)+", folder):
        raise CommitError(f"OS.SudoersDir: {folder!r} can't be named in a sudoers file")
    separator = b"" if old.endswith(b"\n") or not old else b"\n"
    path = work.at(main_file).resolve()
    temporary = atomic_file.prepare(path, old + separator + f"#includedir {folder}\n".encode(), MODE, like=path)
    _checked(work, temporary, path)
    work.wrote(main_file)


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry (workers.runtime)."""
    with companion() as ask_companion:
        serve(channel, lock, {CommitSudo: grant_sudo, WithdrawSudo: withdraw_sudo}, Tools(ask_companion))
