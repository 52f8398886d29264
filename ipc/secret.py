# SPDX-License-Identifier: Apache-2.0
"""Owns the wrapper for text that must never be printed; used in every process; never logs what it holds."""

import msgspec


class Secret(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A password, hash or key as text. Its repr shows nothing; `reveal()` is the one way in, easy to search for."""

    value: str

    def reveal(self) -> str:
        """The text itself: call it only where the next line hands it to the program that needs it."""
        return self.value

    def __repr__(self) -> str:
        return "<secret>"

    def __str__(self) -> str:
        return "<secret>"
