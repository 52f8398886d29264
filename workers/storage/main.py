# SPDX-License-Identifier: Apache-2.0
"""Owns the storage worker's life: a blob to fetch or to store, within its time; one more, if it is of the same handler.

Its process has an own uid, no capability, the machine's network, and no file but those that looking up names and
checking certificates take. It must never tell anybody the URL that it is given.
"""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from ipc.channel import Channel
from ipc.descriptors import close_all, read_sealed
from ipc.errors import BadDescriptor
from ipc.messages import BlobFetched, BlobInFile, BlobStored, FetchBlob, FetchInto, StoreBlob, TransferFailed, Way
from ipc.messages.storage import MOST_BYTES
from workers.runtime import TEXT_LIMIT, Answer, serve_once
from workers.storage.destination import destination
from workers.storage.failure import TransferError
from workers.storage.transfer import Transfer
from workers.storage.trust import Trust

# Loaded now: from the lock on nothing can be made executable, and the names of hosts are encoded by it.
"storage".encode("idna")


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry (workers.runtime)."""
    trust = Trust()

    def on_fetch(request: FetchBlob, descriptors: tuple[int, ...]) -> Iterable[Answer]:
        close_all(descriptors)
        try:
            with _within(request.way):
                where = destination(request.url.reveal(), plain=request.way.plain)
                fetched = Transfer(request.way, trust).fetch(where, request.most_bytes)
        except TransferError as error:
            return [_failed(error)]
        return [(BlobFetched(fetched.size, fetched.sha256), (fetched.descriptor,))]

    def on_fetch_into(request: FetchInto, descriptors: tuple[int, ...]) -> Iterable[Answer]:
        try:
            file = _only(descriptors)
            with _within(request.way):
                where = destination(request.url.reveal(), plain=request.way.plain)
                fetched = Transfer(request.way, trust).fetch_into(where, request.most_bytes, file)
        except TransferError as error:
            return [_failed(error)]
        finally:
            close_all(descriptors)
        return [BlobInFile(fetched.size)]

    def on_store(request: StoreBlob, descriptors: tuple[int, ...]) -> Iterable[Answer]:
        content = _content(descriptors)
        try:
            with _within(request.way):
                transfer = Transfer(request.way, trust)
                for put in request.puts:
                    where = destination(put.url.reveal(), plain=request.way.plain)
                    transfer.put(where, dict(put.headers), content[put.start : put.end])
        except TransferError as error:
            return [_failed(error)]
        return [BlobStored()]

    serve_once(channel, lock, {FetchBlob: on_fetch, FetchInto: on_fetch_into, StoreBlob: on_store}, again=True)


@contextmanager
def _within(way: Way) -> Iterator[None]:
    """TransferError as soon as the transfer's time is over, whatever it waits for: a drip of bytes keeps every wait
    short, and never ends."""

    def over(*_: object) -> None:
        raise TransferError(f"not complete within {way.seconds:g} s")

    signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, way.seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _content(descriptors: tuple[int, ...]) -> bytes:
    try:
        return read_sealed(_only(descriptors), MOST_BYTES)
    finally:
        close_all(descriptors)


def _only(descriptors: tuple[int, ...]) -> int:
    if len(descriptors) != 1:
        raise BadDescriptor(f"{len(descriptors)} descriptors came instead of one")
    return descriptors[0]


def _failed(error: TransferError) -> TransferFailed:
    return TransferFailed(error.status, str(error)[:TEXT_LIMIT])
