# SPDX-License-Identifier: Apache-2.0
"""Committer of one account's password hash: chpasswd with the hash on its standard input (provisioning.md 6).

Root, needs all of /etc. It must never put the hash into an argument list, an error or a log line.
"""

from collections.abc import Callable

from ipc.channel import Channel
from ipc.errors import CommitError
from ipc.messages import CommitPassword
from workers.committers import account_files as files
from workers.committers.account_files import SHADOW, Snapshot
from workers.committers.account_leavings import clear_leavings
from workers.committers.account_tools import run_past_locks
from workers.committers.commit import Workplace, serve
from workers.committers.tools import Tools
from workers.companion import companion

HASH_FIELD = 1
CHANGED_DAY_FIELD = 2


def set_password(request: CommitPassword, work: Workplace) -> str:
    """Set the hash; done already when it stands there."""
    name, password_hash = request.user_name, request.password_hash.reveal()
    if any(character in name + password_hash for character in ":\n\0") or not password_hash.startswith("$"):
        raise CommitError("not a user name and a hash")
    clear_leavings(work.root)
    before = files.read(work.root)
    if files.entry(before, SHADOW, name) is None:
        raise CommitError(f"no line for {name} in {SHADOW}")
    if _hash_of(before, name) == password_hash:
        return f"password of {name} was set already"
    outcome = run_past_locks(work.tools, "chpasswd", "-e", stdin=f"{name}:{password_hash}\n".encode())
    after = files.read(work.root)
    work.wrote(*files.changed_files(before, after))
    if outcome.status != 0:
        said = outcome.output.replace(password_hash, "<secret>")
        raise CommitError(f"chpasswd ended with status {outcome.status}: {said or 'no output'}")
    files.replaced_field(before, after, SHADOW, name, frozenset({HASH_FIELD, CHANGED_DAY_FIELD}))
    if _hash_of(after, name) != password_hash:
        raise CommitError(f"chpasswd did not set the password of {name}")
    return f"password of {name} set"


def _hash_of(snapshot: Snapshot, name: str) -> str:
    return "".join((files.entry(snapshot, SHADOW, name) or [])[HASH_FIELD : HASH_FIELD + 1])


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry (workers.runtime)."""
    with companion() as ask_companion:
        serve(channel, lock, {CommitPassword: set_password}, Tools(ask_companion))
