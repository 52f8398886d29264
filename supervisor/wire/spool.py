# SPDX-License-Identifier: Apache-2.0
"""Owns an answer's body while it comes in: a long one is kept out of this process's memory until it is known whole.

Runs in the supervisor. What turns out to be junk has never been in it then, and leaves no hole in its heap.
"""

import os
from types import TracebackType

# Nearly all that the host sends is shorter.
IN_MEMORY_BYTES = 256 * 1024


class Spool:
    """Bytes in the order in which they came. Use as a context manager: afterwards nothing of them is kept, but in the
    file `into`, where one is given: that gets all of them, in place of what was in it."""

    def __init__(self, into: int | None = None) -> None:
        self.size = 0
        self._content = bytearray()
        self._into = into
        self._file = -1 if into is None else into
        self._put = 0
        if into is not None:
            os.ftruncate(into, 0)

    def __enter__(self) -> "Spool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file >= 0 and self._into is None:
            os.close(self._file)
        self._file = -1

    def add(self, piece: bytes | bytearray) -> None:
        """Append `piece`."""
        self.size += len(piece)
        self._content += piece
        if self.size > IN_MEMORY_BYTES:
            self._put_away()

    def whole(self) -> bytes:
        """All of it; nothing of what a file was given for, which has it then."""
        if self._file < 0:
            return bytes(self._content)
        self._put_away()
        if self._into is not None:
            return b""
        pieces = []
        at = 0
        while at < self.size:
            pieces.append(os.pread(self._file, self.size - at, at))
            at += len(pieces[-1])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _put_away(self) -> None:
        if self._file < 0:
            self._file = os.memfd_create("answer", os.MFD_CLOEXEC)
        with memoryview(self._content) as view:
            done = 0
            while done < len(view):
                done += os.pwrite(self._file, view[done:], self._put + done)
            self._put += done
        self._content.clear()
