# SPDX-License-Identifier: Apache-2.0
"""Owns the parser worker: one document or medium in, one typed message out, then it ends.

Its process has an own uid, no capability, no network, no file but the descriptor that came with the request.
"""

from collections.abc import Callable, Iterator

from ipc.channel import Channel
from ipc.descriptors import close_all, read_sealed, sealed_memfd
from ipc.errors import BadDescriptor, InputError
from ipc.messages import Message, ParseGoalState, ParseMedium, ParseVersions
from workers.parser import goal_state, ovf, udf, versions, xml
from workers.parser.blocks import Blocks
from workers.runtime import Answer, serve_once

OVF_NAME = "ovf-env.xml"

# What may be read beside a document of full length. A medium of Azure's kind takes 20 KiB as UDF; pycdlib takes 140 KiB
# of it, since it walks all name spaces, and makes objects of every record that it meets, hence gets less.
BUDGET_BYTES = {
    "udf": xml.MAX_DOCUMENT_BYTES + 2 * 1024 * 1024,
    "iso": xml.MAX_DOCUMENT_BYTES + 512 * 1024,
}


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Serve one request, of any kind that the parser knows."""
    serve_once(
        channel,
        lock,
        {
            ParseMedium: on_parse_medium,
            ParseGoalState: lambda _, descriptors: on_parse_document(goal_state.parse, descriptors),
            ParseVersions: lambda _, descriptors: on_parse_document(versions.parse, descriptors),
        },
    )


def on_parse_medium(request: ParseMedium, descriptors: tuple[int, ...]) -> Iterator[Answer]:
    """`Ovf` with two sealed memfds: custom data, and the document without its password."""
    try:
        blocks = Blocks(_only(descriptors), request.size_bytes, BUDGET_BYTES[request.reader])
        document = _read_ovf(request.reader, blocks)
    finally:
        close_all(descriptors)
    try:
        parsed = ovf.parse(document)
    except InputError as error:
        # With the comma it is the document's fault; the name alone is the medium's, which has no such file.
        raise InputError(f"{OVF_NAME}, {error.where}", error.problem) from None
    yield parsed.ovf, (sealed_memfd("custom-data", parsed.custom_data), sealed_memfd(OVF_NAME, parsed.redacted))


def on_parse_document(parse: Callable[[bytes], Message], descriptors: tuple[int, ...]) -> Iterator[Answer]:
    """The message that `parse` makes of the one sealed document."""
    try:
        document = read_sealed(_only(descriptors), xml.MAX_DOCUMENT_BYTES)
    finally:
        close_all(descriptors)
    yield parse(document)


def _read_ovf(reader: str, blocks: Blocks) -> bytes:
    if reader == "udf":
        return udf.read_file(blocks, (OVF_NAME,), xml.MAX_DOCUMENT_BYTES)
    from workers.parser import iso

    return iso.read_file(blocks, OVF_NAME, xml.MAX_DOCUMENT_BYTES)


def _only(descriptors: tuple[int, ...]) -> int:
    if len(descriptors) != 1:
        raise BadDescriptor(f"{len(descriptors)} descriptors came instead of one")
    return descriptors[0]
