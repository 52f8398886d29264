# SPDX-License-Identifier: Apache-2.0
"""Owns finding the provisioning medium and having it read: devices and a descriptor here, every byte in a parser.

Runs in the supervisor. Nothing is mounted, and the medium is only ever opened for reading.
"""

import os
import stat
from collections.abc import Callable

import msgspec

from ipc.descriptors import close_all, read_sealed
from ipc.errors import AgentError, InputError
from ipc.messages import InputRefused, Ovf, ParseMedium
from supervisor.fleet import Fleet
from supervisor.loop import Loop

# A DVD that the host attaches late shows within seconds; a slow SCSI scan takes up to half a minute.
LOOK_AGAIN_S = 0.5
# One that is there and can't be read may still be spinning up, but every try costs four processes.
READ_AGAIN_S = 3.0
MAX_DOCUMENT_BYTES = 8 << 20
# Two ways to read, each by a parser of its own, in this order: Azure's medium is UDF, with or without ISO9660.
READERS = ("udf", "iso")
DOCUMENT = "ovf-env.xml"


class Medium(msgspec.Struct, frozen=True):
    """What a medium held: the typed document, its custom data as it stood there, and its text without the password."""

    device: str
    ovf: Ovf
    custom_data: bytes
    redacted: bytes


class NoMedium(AgentError):
    """No medium could be read; says what was tried and why each failed."""


class Finder:
    """Looks for the medium until it is there or patience ends."""

    def __init__(self, loop: Loop, fleet: Fleet, candidates: Callable[[], list[str]], sought: str) -> None:
        """`candidates` lists the device or image paths that may be it now; `sought` says what those are, for errors."""
        self._loop = loop
        self._fleet = fleet
        self._candidates = candidates
        self._sought = sought

    async def find(self, patience_s: float, tell: Callable[[str], None] = lambda _: None) -> Medium:
        """The first medium that can be read. NoMedium after `patience_s`, InputError when its document is unusable.

        `tell` gets what is in the way, each time that a look finds none, for `ps`."""
        ends = self._loop.clock.monotonic() + patience_s
        while True:
            problems: list[str] = []
            for device in self._candidates():
                medium = await self._read(device, problems)
                if medium is not None:
                    return medium
            left_s = ends - self._loop.clock.monotonic()
            found = "; ".join(problems) or "there is none"
            tell(f"looks for the medium ({self._sought}): {found}")
            if left_s <= 0:
                raise NoMedium(f"no provisioning medium ({self._sought}) within {patience_s:g} s: {found}")
            await self._loop.sleep(min(left_s, READ_AGAIN_S if problems else LOOK_AGAIN_S))

    async def _read(self, device: str, problems: list[str]) -> Medium | None:
        """The medium in `device`, or None and a line in `problems`."""
        try:
            descriptor, size = _open(device)
        except OSError as error:
            problems.append(f"{device}: {error.strerror}")
            return None
        try:
            refusals = []
            for reader in READERS:
                read = await self._ask(ParseMedium(reader, size), descriptor, device)
                if isinstance(read, Medium):
                    return read
                refusals.append(read)
        finally:
            os.close(descriptor)
        problems.append(f"{device}: {', and '.join(refusals)}")
        return None

    async def _ask(self, request: ParseMedium, descriptor: int, device: str) -> Medium | str:
        """What a fresh parser makes of the medium: the document, or why it is no medium of its format."""
        try:
            answer, attached = (await self._fleet.do("parser", request, (descriptor,), final=(Ovf,)))[-1]
        except AgentError as error:
            # Its parser hung or died on it: that is this medium's affair, and another one may be the right one.
            return str(error)
        if isinstance(answer, Ovf):
            return _take(device, answer, attached)
        if not isinstance(answer, InputRefused):
            raise InputError(device, f"{type(answer).__name__} came back")
        if answer.where.startswith(f"{DOCUMENT}, "):
            raise InputError(f"{answer.where} on {device}", answer.problem)
        return f"{answer.where}: {answer.problem}"


def _open(device: str) -> tuple[int, int]:
    """A read-only descriptor of a block device or an image file, and its size in bytes; OSError for all else."""
    # O_NONBLOCK: an empty CD drive answers at once, and a FIFO in the device's place does not hold us up.
    descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISBLK(mode) or stat.S_ISREG(mode)):
            raise OSError(0, "neither a block device nor an image file")
        size = os.lseek(descriptor, 0, os.SEEK_END)
        if not size:
            raise OSError(0, "empty")
    except OSError:
        os.close(descriptor)
        raise
    return descriptor, size


def _take(device: str, ovf: Ovf, attached: tuple[int, ...]) -> Medium:
    try:
        if len(attached) != 2:
            raise InputError(device, "the parser's answer came without its documents")
        return Medium(device, ovf, *(read_sealed(descriptor, MAX_DOCUMENT_BYTES) for descriptor in attached))
    finally:
        close_all(attached)
