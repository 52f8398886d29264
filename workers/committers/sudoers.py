# SPDX-License-Identifier: Apache-2.0
"""Committer of one line in the sudoers folder's `waagent` file (provisioning.md 6). Root, needs /etc.

Nothing takes effect before it was checked: the new file is prepared under a name that sudo passes over, checked by
visudo (where there is one), then renamed. It must never write a line whose meaning depends on what stands around it.
"""

import re
from collections.abc import Callable
from pathlib import Path

from ipc.channel import Channel
from ipc.errors import CommitError
from ipc.messages import CommitSudo
from workers.committers import atomic_file
from workers.committers.commit import Workplace, serve

FILE_NAME = "waagent"
MODE = 0o440
FOLDER_MODE = 0o750
# Words that sudo would not read as the name of one user.
RESERVED = frozenset({"ALL", "Defaults", "User_Alias", "Runas_Alias", "Host_Alias", "Cmnd_Alias", "Cmd_Alias"})
USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}")


def grant_sudo(request: CommitSudo, work: Workplace) -> str:
    """Add the line unless it stands there; CommitError when the outcome would not be a valid sudoers file."""
    name, folder = request.user_name, request.paths.sudoers_dir
    if not USER.fullmatch(name) or name in RESERVED:
        raise CommitError("not a name that sudoers reads as one user")
    note = _ensure_folder(folder, work)
    line = f"{name} ALL=(ALL) {'NOPASSWD: ' if request.without_password else ''}ALL"
    target = f"{folder}/{FILE_NAME}"
    found = atomic_file.look(work.at(target))
    old = found.content if found else b""
    if line.encode() in old.splitlines():
        return f"sudoers line of {name} was there already{note}"
    separator = b"\n" if old and not old.endswith(b"\n") else b""
    _install(work, target, old + separator + line.encode() + b"\n")
    return f"sudoers line of {name} written{note}"


def _install(work: Workplace, target: str, content: bytes) -> None:
    path = work.at(target)
    temporary = atomic_file.prepare(path, content, MODE)
    try:
        _check(work, temporary)
    except CommitError:
        temporary.unlink()
        raise
    atomic_file.put_in_place(temporary, path)
    work.wrote(target)


def _check(work: Workplace, temporary: Path) -> None:
    """Without visudo there is no sudo either; the line itself comes from a fixed pattern."""
    if work.tools.find("visudo") is not None:
        outcome = work.tools.run("visudo", "-c", "-f", str(temporary))
        if outcome.status != 0:
            raise CommitError(f"visudo refuses the sudoers file: {outcome.output}")


def _ensure_folder(folder: str, work: Workplace) -> str:
    """A missing folder is named in the sudoers file beside it first, then made: a run killed in between is repeated."""
    path = work.at(folder)
    if path.is_dir():
        return ""
    note = _include(folder, work)
    path.mkdir(mode=FOLDER_MODE, parents=True)
    path.chmod(FOLDER_MODE)
    work.wrote(folder)
    return note


def _include(folder: str, work: Workplace) -> str:
    if not re.fullmatch(r"(/[A-Za-z0-9_.-]+)+", folder):
        raise CommitError(f"sudoers folder {folder!r} can't be named in a sudoers file")
    main_file = f"{folder.rpartition('/')[0]}/sudoers"
    path = work.at(main_file)
    found = atomic_file.look(path)
    if found is None:
        return f"; there is no {main_file}: sudo is not installed"
    words = [line.split() for line in found.content.decode("utf-8", "replace").splitlines()]
    if ["#includedir", folder] in words or ["@includedir", folder] in words:
        return ""
    separator = b"" if found.content.endswith(b"\n") else b"\n"
    content = found.content + separator + f"#includedir {folder}\n".encode()
    temporary = atomic_file.prepare(path, content, MODE, like=path)
    try:
        _check(work, temporary)
    except CommitError:
        temporary.unlink()
        raise
    atomic_file.put_in_place(temporary, path)
    work.wrote(main_file)
    return f"; {folder} made and included in {main_file}"


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry (workers.runtime)."""
    serve(channel, lock, {CommitSudo: grant_sudo})
