# SPDX-License-Identifier: Apache-2.0
"""A seed image that is changed in place, read by the reader, and put back: copying a megabyte would take longer."""

import os
import struct

PIECE_BYTES = 64 * 1024


class Medium:
    """An image in a memfd. What `write` changes, `restore` takes back; `size_bytes` is what the reader is told."""

    def __init__(self, name: str, image: bytes) -> None:
        self.name = name
        self.descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
        self.full_bytes = self.size_bytes = len(image)
        os.ftruncate(self.descriptor, len(image))
        for at in range(0, len(image), PIECE_BYTES):
            piece = image[at : at + PIECE_BYTES]
            if any(piece):  # the rest stays a hole
                os.pwrite(self.descriptor, piece, at)
        self._before: list[tuple[int, bytes]] = []

    def read(self, at: int, length: int) -> bytes:
        """Up to `length` bytes, fewer at the end."""
        return os.pread(self.descriptor, length, at)

    def number(self, form: str, at: int) -> int:
        """The integer of struct's `form` at byte `at`; 0 past the end."""
        data = self.read(at, struct.calcsize(form))
        return int(struct.unpack(form, data)[0]) if len(data) == struct.calcsize(form) else 0

    def write(self, at: int, data: bytes) -> None:
        """`data` at byte `at`, cut at the end of the image."""
        data = data[: max(self.full_bytes - at, 0)]
        self._before.append((at, self.read(at, len(data))))
        os.pwrite(self.descriptor, data, at)

    def restore(self) -> None:
        """The image as it was."""
        for at, data in reversed(self._before):
            os.pwrite(self.descriptor, data, at)
        self._before.clear()
        self.size_bytes = self.full_bytes
