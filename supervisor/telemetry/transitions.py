# SPDX-License-Identifier: Apache-2.0
"""Owns which operations went well the last time, so that only a change of that is an event, through restarts as well.

Runs in the supervisor; one small file of its own.
"""

import msgspec

from ipc.errors import StateError
from supervisor.files import read_text, write_whole

MOST = 256
MODE = 0o600


class Transitions:
    """What is known of each operation, by its name."""

    def __init__(self, path: str) -> None:
        """What stands in the file `path`; nothing where it is absent or torn, and then some events come once more."""
        self._path = path
        self._known: dict[str, bool] = {}
        text = read_text(path)
        if text:
            try:
                self._known = msgspec.json.decode(text, type=dict[str, bool])
            except msgspec.MsgspecError:
                self._known = {}

    def is_new(self, operation: str, *, succeeded: bool) -> bool:
        """Whether `operation` went otherwise than the last time, which is now written down. StateError when it can't
        be."""
        if self._known.get(operation) is succeeded:
            return False
        if operation not in self._known and len(self._known) >= MOST:
            raise StateError(f"{self._path} names {MOST} operations already, and no more are taken")
        self._known[operation] = succeeded
        write_whole(self._path, msgspec.json.encode(self._known), MODE)
        return True
