# SPDX-License-Identifier: Apache-2.0
"""Owns the watch over our rules: reads what the kernel tells of every change of nftables' rules, and says who it was.

Runs in the supervisor, on a descriptor that a committer has opened. Changes of others' rules cost the reading alone.
"""

import errno
import socket
from collections.abc import Callable

from policy.egress.netlink import attributes, messages, names
from supervisor.loop import Loop

_NFTABLES = 10
_NEWGEN = 15
_FAMILY_BYTES = 4
# Of the message that ends a transaction.
_PID, _NAME = 2, 3
# The kernel's messages are of a page or two.
MOST_BYTES = 32768
# Reads at one wake-up: whoever changes rules all the time must not keep the loop from its other work.
MOST_READS = 16
# The message that names the process follows at once; when it does not, somebody changed ours all the same.
NAME_WITHIN_S = 0.1
UNKNOWN = "somebody whom the kernel did not name"
# Maybe nobody did: whoever has it told can tell this from a change.
OVERFLOWN = "somebody, or nobody: so many rules were changed that the kernel could not tell all"


class Watch:
    """Calls `changed` once, with who it was in words, when what is named `ours` (policy.egress.netlink.names) is
    changed in any family; with OVERFLOWN, when the kernel had to leave messages out, maybe about others' rules alone.

    From then on it is deaf: the descriptor comes from before the change that mends it."""

    def __init__(self, loop: Loop, descriptor: int, ours: str, changed: Callable[[str], None]) -> None:
        """`descriptor`, a netlink socket, is this object's from now on."""
        self._loop = loop
        self._socket = socket.socket(fileno=descriptor)
        self._socket.setblocking(False)
        self._ours = ours
        self._changed = changed
        self._touched = False
        self._deaf = False
        loop.watch(descriptor, self._read)

    def close(self) -> None:
        """Hear nothing more; harmless when it is deaf already."""
        if not self._deaf:
            self._deaf = True
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()

    def _read(self) -> None:
        for _ in range(MOST_READS):
            try:
                datagram, sender = self._socket.recvfrom(MOST_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                self._tell(OVERFLOWN if error.errno == errno.ENOBUFS else f"somebody ({error.strerror})")
                return
            # The kernel is port 0 of netlink; what others send is no news of it.
            if sender and sender[0]:
                continue
            self._take(datagram)
            if self._deaf:
                return

    def _take(self, datagram: bytes) -> None:
        for kind, content in messages(datagram):
            if kind >> 8 != _NFTABLES:
                continue
            if kind & 0xFF == _NEWGEN:
                if self._touched:
                    self._tell(_who(dict(attributes(content[_FAMILY_BYTES:]))))
                    return
            elif not self._touched and names(content, self._ours):
                self._touched = True
                self._loop.call_later(NAME_WITHIN_S, lambda: self._tell(UNKNOWN))

    def _tell(self, who: str) -> None:
        if not self._deaf:
            self.close()
            self._changed(who)


def _who(about: dict[int, bytes]) -> str:
    """As "nft, pid 123": the name is what the process calls itself."""
    pid, name = about.get(_PID, b""), about.get(_NAME, b"").rstrip(b"\0")
    if len(pid) != 4 or not name:
        return UNKNOWN
    called = "".join(letter if letter.isprintable() else "?" for letter in name.decode("utf-8", "replace"))
    return f"{called}, pid {int.from_bytes(pid, 'big')}"
