# SPDX-License-Identifier: Apache-2.0
"""Owns the canary: a listening socket behind the rule on which the rule can be tried, and the trial from outside.

Runs in the egress committer, whose own sockets are none of those that the rule admits. Nothing is ever accepted here:
the kernel completes a connection by itself. It must never listen at another port than the supervisor may connect to.
"""

import socket

from ipc.errors import CommitError
from policy.egress import CANARY, CANARY_PORT

PLACE = (CANARY, CANARY_PORT)
# A refusal comes at once; what takes longer was dropped without a word.
PATIENCE_S = 1.0


def listen() -> tuple[socket.socket, str]:
    """The socket, and why it does not listen, empty when it does. It can't where root has taken the port."""
    canary = _fresh()
    try:
        canary.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        canary.bind(PLACE)
        canary.listen(4)
    except OSError as error:
        canary.close()
        return _fresh(), f"nobody can listen at {CANARY}:{CANARY_PORT} ({error.strerror})"
    return canary, ""


def reached() -> bool:
    """Whether this process reaches it; False when it is refused at once, CommitError when nothing comes. Any other
    OSError tells nothing of the rule."""
    with _fresh() as outside:
        outside.settimeout(PATIENCE_S)
        try:
            outside.connect(PLACE)
        except ConnectionRefusedError:
            return False
        except TimeoutError:
            raise CommitError(
                f"who is not admitted gets no answer within {PATIENCE_S:g} s, where a refusal is due"
            ) from None
        return True


def _fresh() -> socket.socket:
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
