# SPDX-License-Identifier: Apache-2.0
"""Committer of root's password lock: root's field in the shadow file matches nothing any more (provisioning.md 8).

Root, needs the shadow file's folder. The file is replaced whole, under the lock that the distribution's tools take.
"""

from collections.abc import Callable

from ipc.channel import Channel
from ipc.errors import CommitError
from ipc.messages import CommitRootLock
from workers.committers import atomic_file
from workers.committers.account_lock import LOCK_FILE, PATIENCE_S, account_lock
from workers.committers.commit import Workplace, serve

LOCKED = b"*LOCK*"
WHOLE_LINE = b"root:" + LOCKED + b":14600::::::"
ACCOUNTS = "/etc/passwd"


def lock_root(request: CommitRootLock, work: Workplace) -> str:
    """Lock it; nothing is written when it is locked this way already.

    CommitError when root's password is none of the shadow file's: then nothing that is done there would count."""
    shadow = request.paths.shadow
    path = work.at(shadow)
    _expect_shadowed(work)
    with account_lock(work.at(LOCK_FILE), PATIENCE_S):
        found = atomic_file.look(path)
        if found is None:
            raise CommitError(f"{shadow}, which OS.PasswordPath names, does not exist")
        content = locked(found.content)
        if content == found.content:
            return "root's password was locked already"
        atomic_file.rewrite(path, content)
        work.wrote(shadow)
    after = atomic_file.look(path)
    if after is None or after.content != content:
        raise CommitError(f"{shadow} was changed by somebody else at the same time")
    return "root's password locked"


def _expect_shadowed(work: Workplace) -> None:
    found = atomic_file.look(work.at(ACCOUNTS))
    lines = found.content.split(b"\n") if found else []
    for fields in (line.split(b":") for line in lines if line.startswith(b"root:")):
        if fields[1][:1] not in (b"x", b"*", b"!"):
            raise CommitError(f"root's password stands in {ACCOUNTS}, where no shadow file changes it")


def locked(content: bytes) -> bytes:
    """The shadow file `content` with exactly one line for root, where the first one stood, its password unusable."""
    lines = content.splitlines(keepends=True)
    root_lines = [number for number, line in enumerate(lines) if line.startswith(b"root:")]
    if not root_lines:
        return WHOLE_LINE + b"\n" + content
    fields = lines[root_lines[0]].split(b":")
    if len(fields) > 2:
        fields[1] = LOCKED
        lines[root_lines[0]] = b":".join(fields)
    else:
        lines[root_lines[0]] = WHOLE_LINE + b"\n"
    return b"".join(line for number, line in enumerate(lines) if number not in root_lines[1:])


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry (workers.runtime)."""
    serve(channel, lock, {CommitRootLock: lock_root})
