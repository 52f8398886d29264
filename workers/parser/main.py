# SPDX-License-Identifier: Apache-2.0
"""Owns the parser worker: one document or medium in, one typed message out, then it ends.

Its process has an own uid, no capability, no network, no file but the descriptor that came with the request.
"""

import os
from collections.abc import Callable, Iterator

from ipc.channel import Channel
from ipc.descriptors import close_all, read_sealed, sealed_memfd
from ipc.errors import BadDescriptor, InputError
from ipc.messages import Message, ParseGoalState, ParseMedium, ParseOvf, ParseVersions
from workers.parser import goal_state, iso, ovf, udf, versions, xml
from workers.parser.blocks import Blocks
from workers.runtime import Answer, serve_once

OVF_NAME = "ovf-env.xml"

# What may be read of a medium: a document of full length, and more than any folder or table on the way to it takes.
# Azure's kind takes 20 KiB.
BUDGET_BYTES = xml.MAX_DOCUMENT_BYTES + 2 * 1024 * 1024
READERS = {
    "udf": lambda blocks: udf.read_file(blocks, (OVF_NAME,), xml.MAX_DOCUMENT_BYTES),
    "iso": lambda blocks: iso.read_file(blocks, OVF_NAME, xml.MAX_DOCUMENT_BYTES),
}


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Serve one request, of any kind that the parser knows."""
    serve_once(
        channel,
        lock,
        {
            ParseMedium: on_parse_medium,
            ParseOvf: on_parse_ovf,
            ParseGoalState: lambda _, descriptors: on_parse_document(goal_state.parse, descriptors),
            ParseVersions: lambda _, descriptors: on_parse_document(versions.parse, descriptors),
        },
    )


def on_parse_medium(request: ParseMedium, descriptors: tuple[int, ...]) -> Iterator[Answer]:
    """`Ovf` with two sealed memfds: custom data, and the document without its password."""
    try:
        blocks = Blocks(_only(descriptors), request.size_bytes, BUDGET_BYTES)
        document = READERS[request.reader](blocks)
    finally:
        close_all(descriptors)
    try:
        parsed = ovf.parse(document)
    except InputError as error:
        # With the comma it is the document's fault; the name alone is the medium's, which has no such file.
        raise InputError(f"{OVF_NAME}, {error.where}", error.problem) from None
    yield parsed.ovf, (sealed_memfd("custom-data", parsed.custom_data), sealed_memfd(OVF_NAME, parsed.redacted))


def on_parse_ovf(_: ParseOvf, descriptors: tuple[int, ...]) -> Iterator[Answer]:
    """As from a medium, for the document itself in a sealed memfd."""
    parsed = ovf.parse(_sealed(descriptors))
    yield parsed.ovf, (sealed_memfd("custom-data", parsed.custom_data), sealed_memfd(OVF_NAME, parsed.redacted))


def on_parse_document(parse: Callable[[bytes], Message], descriptors: tuple[int, ...]) -> Iterator[Answer]:
    """The message that `parse` makes of the one sealed document."""
    yield parse(_sealed(descriptors))


def _sealed(descriptors: tuple[int, ...]) -> bytes:
    """The one sealed document. What is too long is the document's fault, hence an InputError, and nothing is read."""
    try:
        size = os.fstat(_only(descriptors)).st_size
        if size > xml.MAX_DOCUMENT_BYTES:
            raise InputError("document", f"is {size} bytes long, more than the {xml.MAX_DOCUMENT_BYTES} allowed")
        return read_sealed(descriptors[0], xml.MAX_DOCUMENT_BYTES)
    finally:
        close_all(descriptors)


def _only(descriptors: tuple[int, ...]) -> int:
    if len(descriptors) != 1:
        raise BadDescriptor(f"{len(descriptors)} descriptors came instead of one")
    return descriptors[0]
