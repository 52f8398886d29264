# SPDX-License-Identifier: Apache-2.0
"""Owns the look at a rule of whose changes nothing tells: from time to time an outsider's way to the canary is tried.

Runs in the supervisor, by a socket of its own uid, which is not the rule's. A look is two calls on a socket that stays:
it has to cost next to nothing, because nothing else of an idle agent comes so often.
"""

import errno
import socket
from collections.abc import Callable

from supervisor.loop import Loop

REFUSED = {errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED}
PASSED = {0, errno.EISCONN}


class Look:
    """Calls `passed` once, when somebody else gets through to `canary`, which is this object's from now on. What is
    dropped without a word, or kept from getting as far as the rule, tells nothing: it is looked at again."""

    def __init__(self, loop: Loop, canary: socket.socket, every_s: float, passed: Callable[[], None]) -> None:
        self._loop = loop
        self._canary = canary
        self._place = canary.getsockname()
        self._every_s = every_s
        self._passed = passed
        self._outsider = _fresh()
        self._cancel = loop.call_later(every_s, self._look)

    def close(self) -> None:
        """Look no more; harmless when it is over already."""
        self._cancel()
        self._outsider.close()
        self._canary.close()

    def passes(self) -> bool:
        """Whether somebody else gets through now. The refusal comes within the first call, and the second tells it: the
        loopback device hands a packet over at once."""
        if self._outsider.fileno() < 0:
            return False
        self._outsider.connect_ex(self._place)
        answer = self._outsider.connect_ex(self._place)
        if answer in PASSED:
            return True
        if answer not in REFUSED:
            self._outsider.close()
            self._outsider = _fresh()
        return False

    def _look(self) -> None:
        if self.passes():
            self._passed()
        else:
            self._cancel = self._loop.call_later(self._every_s, self._look)


def _fresh() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
