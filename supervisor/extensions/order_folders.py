# SPDX-License-Identifier: Apache-2.0
"""Owns the folders of handlers' commands, as the supervisor has them: one for each number, made, known again, removed.

Runs in the supervisor. The folder of another command must never pass for that of a number.
"""

import os
from contextlib import suppress

from ipc.errors import StateError
from supervisor.files import make_folder
from supervisor.jail import handler_order
from supervisor.jail.handler_folder import ORDER, STARTED, write_whole
from supervisor.jail.handler_order import HandlerOrder, HandlerResult

LAST, LIMITED = "last", "limited-"
MOST_DIGITS = 17


class OrderFolders:
    """Those in `folder`, which a boot empties."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def path(self, number: int) -> str:
        """Of that number's."""
        return f"{self._folder}/{number}"

    def highest(self) -> int:
        """The highest number that a command had in this boot, 0 if there was none. OSError."""
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:
            return 0
        with suppress(FileNotFoundError), open(f"{self._folder}/{LAST}", "rb") as file:
            names.append(file.read(MOST_DIGITS + 1).decode("ascii", "replace"))
        return max((int(name) for name in names if name.isdecimal() and len(name) <= MOST_DIGITS), default=0)

    def make(self, number: int) -> str:
        """An empty one, its path; from now on the number is taken, also when it is removed. OSError, StateError."""
        make_folder(self._folder, 0o700)
        if number > 0:
            # One below is no handler's, but a proof's (supervisor/prove/handler_unit.py), and is not counted.
            write_whole(self._folder, LAST, str(max(number, self.highest())).encode())
        make_folder(self.path(number), 0o700)
        return self.path(number)

    def tells_limit(self, unit: str, *, is_one: bool) -> bool:
        """Whether systemd is to be told of that unit's limit: if there is one, or was one of ours in this boot, which
        is to be lifted. Others' limits are not ours to lift. OSError, StateError."""
        mark = f"{LIMITED}{unit}"
        there = os.path.lexists(f"{self._folder}/{mark}")
        if is_one and not there:
            make_folder(self._folder, 0o700)
            write_whole(self._folder, mark, b"")
        return is_one or there

    def order(self, number: int) -> HandlerOrder | None:
        """What was ordered, None if nothing was. OSError when it can't be read now, StateError when never."""
        return handler_order.read_order(self.path(number))

    def has_begun(self, number: int) -> bool:
        """Whether its warden has started it."""
        return os.path.lexists(f"{self.path(number)}/{STARTED}")

    def result(self, number: int) -> HandlerResult | None:
        """What came of it, None while there is nothing. OSError when it can't be read now, StateError when never."""
        return handler_order.read_result(self.path(number))

    def is_alone(self, number: int) -> bool:
        """Whether it has ended and left nothing behind, so that systemd forgets its unit by itself."""
        with suppress(OSError, StateError):
            found = self.result(number)
            return found is not None and found.alone
        return False

    def withdraw(self, number: int) -> bool:
        """Take the order away from a warden that may come yet; False if it was there before."""
        with suppress(FileNotFoundError):
            os.unlink(f"{self.path(number)}/{ORDER}")
        return not self.has_begun(number)

    def remove(self, number: int) -> None:
        """Keys and all. StateError."""
        folder = self.path(number)
        try:
            for name in os.listdir(folder):
                os.unlink(f"{folder}/{name}")
            os.rmdir(folder)
        except FileNotFoundError:
            return
        except OSError as error:
            raise StateError(f"{folder} can't be removed: {error.strerror}") from None
