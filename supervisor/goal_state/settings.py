# SPDX-License-Identifier: Apache-2.0
"""Owns the sealed file that comes with a goal state: its handlers' settings and signatures.

Runs in the supervisor. They may be secrets: nothing here shows them, and they are read at the moment they are written
to where a handler finds them.
"""

import os

from ipc.descriptors import close_all, read_part, read_sealed, sealed_size
from ipc.errors import BadDescriptor
from ipc.messages import Span

# A document of 2 MiB becomes no more than this, as a copy or as settings.
MOST_BYTES = 8 << 20


class SettingsBundle:
    """Whoever holds a goal state holds its bundle with it; the descriptor goes when the last of them lets go of it.

    Two are equal when their content is: the same goal state, read twice, is one."""

    def __init__(self, descriptor: int | None = None) -> None:
        """Takes over `descriptor`, a sealed memfd; BadDescriptor if it is none. Without one it is empty."""
        self._descriptor = descriptor
        self._size = 0
        if descriptor is not None:
            try:
                self._size = sealed_size(descriptor, MOST_BYTES)
            except BadDescriptor:
                self.close()
                raise

    def __del__(self) -> None:
        self.close()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SettingsBundle):
            return NotImplemented
        return self is other or (self._size == other._size and self._whole() == other._whole())

    def __hash__(self) -> int:
        return self._size

    def of(self, span: Span) -> bytes:
        """What `span` stands for. BadDescriptor for one that is not within, or once closed."""
        if not span.size:
            return b""
        if self._descriptor is None or span.start + span.size > self._size:
            raise BadDescriptor(f"{span.size} bytes at {span.start} are not in the {self._size} of the settings")
        return read_part(self._descriptor, span.start, span.size)

    def close(self) -> None:
        """Let go of the descriptor, whoever still holds this."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _whole(self) -> bytes:
        return self.of(Span(0, self._size))


NO_SETTINGS = SettingsBundle()


def taken(descriptors: tuple[int, ...]) -> tuple[bytes, SettingsBundle]:
    """The redacted copy and the settings that a goal state came with; BadDescriptor, and all closed, if they are not
    what they have to be."""
    copy, settings = descriptors
    try:
        content = read_sealed(copy, MOST_BYTES)
    except BadDescriptor:
        close_all(descriptors[1:])
        raise
    finally:
        os.close(copy)
    return content, SettingsBundle(settings)
