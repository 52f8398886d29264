# SPDX-License-Identifier: Apache-2.0
"""Owns reading from a medium's descriptor; runs in the parser; never reads past the size or the budget it was given."""

import errno
import os

from ipc.errors import InputError

LEAST_CHARGE_BYTES = 512


class Blocks:
    """Exact reads by position from a block device or image, up to `budget_bytes` in all.

    The size comes from whoever opened the device: fstat knows none for a block device. Every read costs at least
    512 bytes of the budget, so that it limits the number of reads as well. What can't be read is an InputError.
    """

    def __init__(self, descriptor: int, size_bytes: int, budget_bytes: int) -> None:
        if size_bytes <= 0:
            raise InputError("medium", "is empty")
        self._descriptor = descriptor
        self._left_bytes = budget_bytes
        self.size_bytes = size_bytes

    def read(self, offset: int, length: int, what: str) -> bytes:
        """Exactly `length` bytes at byte `offset`; `what` names the structure that is being read."""
        if offset < 0 or length < 0 or offset + length > self.size_bytes:
            raise InputError(what, f"lies at byte {offset} to {offset + length} of a medium of {self.size_bytes}")
        self._left_bytes -= max(length, LEAST_CHARGE_BYTES)
        if self._left_bytes < 0:
            raise InputError(what, "more of the medium would have to be read than is allowed")
        pieces = bytearray()
        while len(pieces) < length:
            pieces += self._piece(offset + len(pieces), length - len(pieces), what)
        return bytes(pieces)

    def _piece(self, offset: int, length: int, what: str) -> bytes:
        try:
            piece = os.pread(self._descriptor, length, offset)
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, "unknown error")
            raise InputError(what, f"can't be read at byte {offset}: {name}") from None
        if not piece:
            raise InputError(what, f"the medium ends at byte {offset}")
        return piece
