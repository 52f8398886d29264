# SPDX-License-Identifier: Apache-2.0
"""Owns the parser worker: one document or medium in, one typed message out, then it ends.

Its process has an own uid, no capability, no network, no file but the descriptor that came with the request. Of the
readers it loads, once it knows its document, the one for that: from code that the spawner carries and never runs.
"""

import os
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ipc.channel import Channel
from ipc.descriptors import close_all, read_sealed, sealed_memfd
from ipc.errors import BadDescriptor, InputError
from ipc.messages import (
    Message,
    ParseArtifactsProfile,
    ParseCertificateFile,
    ParseChannelKey,
    ParseEventFile,
    ParseEventRecord,
    ParseExtensionPolicy,
    ParseExtensionsConfig,
    ParseGoalState,
    ParseHandlerManifest,
    ParseHeartbeat,
    ParseHostingEnvironment,
    ParseInstanceMetadata,
    ParseKeyStatus,
    ParseMedium,
    ParseOvf,
    ParsePackageManifest,
    ParsePluginVersions,
    ParseRemoteAccess,
    ParseStatusFile,
    ParseVersions,
    ParseVmSettings,
)
from workers.parser.bounds import MAX_DOCUMENT_BYTES, MAX_EVENTS_BYTES, MAX_EXTENSIONS_BYTES
from workers.runtime import Answer, serve_once

if TYPE_CHECKING:
    from workers.parser.ovf import Parsed

OVF_NAME = "ovf-env.xml"

# What may be read of a medium: a document of full length, and more than any folder or table on the way to it takes.
# Azure's kind takes 20 KiB.
BUDGET_BYTES = MAX_DOCUMENT_BYTES + 2 * 1024 * 1024
# Loaded when the request has shown which of them it needs; a worker that was started by exec loads all at its start.
LATER = tuple(
    f"workers.parser.{name}"
    for name in (
        "answer", "artifacts_profile", "blocks", "certificate_file", "channel_key", "event_file", "event_record",
        "extension_policy",
        "extensions_config", "goal_state", "handler_manifest", "handlers", "heartbeat", "hosting_environment",
        "instance_metadata", "iso", "json_document", "key_status", "ovf", "package_manifest", "plugin_versions",
        "redaction", "remote_access", "settings_bundle", "status_file", "told", "udf", "udf_files", "udf_tags",
        "udf_volume", "versions", "vm_settings", "xml",
    )
)  # fmt: skip
FILES = {"udf": (OVF_NAME,), "iso": OVF_NAME}
# The documents that become one message each, and those of which files are handed over besides.
READERS: dict[type[Message], str] = {
    ParseGoalState: "goal_state",
    ParseVersions: "versions",
    ParseKeyStatus: "key_status",
    ParseChannelKey: "channel_key",
    ParseHostingEnvironment: "hosting_environment",
    ParseRemoteAccess: "remote_access",
    ParseArtifactsProfile: "artifacts_profile",
    ParseInstanceMetadata: "instance_metadata",
    ParsePluginVersions: "plugin_versions",
    ParseEventRecord: "event_record",
    ParseHandlerManifest: "handler_manifest",
    ParseStatusFile: "status_file",
    ParseHeartbeat: "heartbeat",
    ParseExtensionPolicy: "extension_policy",
}
READERS_WITH_FILES: dict[type[Message], tuple[str, int]] = {
    ParseExtensionsConfig: ("extensions_config", MAX_EXTENSIONS_BYTES),
    ParseVmSettings: ("vm_settings", MAX_EXTENSIONS_BYTES),
    ParseCertificateFile: ("certificate_file", MAX_DOCUMENT_BYTES),
}


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Serve one request, of any kind that the parser knows."""
    serve_once(
        channel,
        lock,
        {
            ParseMedium: on_parse_medium,
            ParseOvf: on_parse_ovf,
            ParseEventFile: on_parse_event_file,
            ParsePackageManifest: on_parse_package_manifest,
            **dict.fromkeys(READERS, on_parse_document),
            **dict.fromkeys(READERS_WITH_FILES, on_parse_with_files),
        },
    )


def on_parse_medium(request: ParseMedium, descriptors: tuple[int, ...]) -> Iterator[Answer]:
    """`Ovf` with two sealed memfds: custom data, and the document without its password."""
    try:
        blocks = _reader("blocks").Blocks(_only(descriptors), request.size_bytes, BUDGET_BYTES)
        document: bytes = _reader(request.reader).read_file(blocks, FILES[request.reader], MAX_DOCUMENT_BYTES)
    finally:
        close_all(descriptors)
    try:
        parsed: Parsed = _reader("ovf").parse(document)
    except InputError as error:
        # With the comma it is the document's fault; the name alone is the medium's, which has no such file.
        raise InputError(f"{OVF_NAME}, {error.where}", error.problem) from None
    yield parsed.ovf, (sealed_memfd("custom-data", parsed.custom_data), sealed_memfd(OVF_NAME, parsed.redacted))


def on_parse_ovf(_: ParseOvf, descriptors: tuple[int, ...]) -> Iterator[Answer]:
    """As from a medium, for the document itself in a sealed memfd."""
    parsed: Parsed = _reader("ovf").parse(_sealed(descriptors))
    yield parsed.ovf, (sealed_memfd("custom-data", parsed.custom_data), sealed_memfd(OVF_NAME, parsed.redacted))


def on_parse_document(request: Message, descriptors: tuple[int, ...]) -> Iterator[Answer]:
    """The message that its reader makes of the one sealed document."""
    message: Message = _reader(READERS[type(request)]).parse(_sealed(descriptors))
    yield message


def on_parse_with_files(request: Message, descriptors: tuple[int, ...]) -> Iterator[Answer]:
    """The same, with a sealed memfd for each file that its reader makes besides."""
    reader, most_bytes = READERS_WITH_FILES[type(request)]
    message, *contents = _reader(reader).parse(_sealed(descriptors, most_bytes))
    yield message, tuple(sealed_memfd(reader, content) for content in contents)


def on_parse_event_file(request: ParseEventFile, descriptors: tuple[int, ...]) -> Iterator[Answer]:
    """The events of one file, from one of them on."""
    message: Message = _reader("event_file").parse(_sealed(descriptors, MAX_EVENTS_BYTES), request.first)
    yield message


def on_parse_package_manifest(request: ParsePackageManifest, descriptors: tuple[int, ...]) -> Iterator[Answer]:
    """What a handler's manifest has for the wanted version."""
    message: Message = _reader("package_manifest").parse(_sealed(descriptors, MAX_EXTENSIONS_BYTES), request.version)
    yield message


def _reader(name: str) -> Any:
    return import_module(f"workers.parser.{name}")


def _sealed(descriptors: tuple[int, ...], most_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
    """The one sealed document. What is too long is the document's fault, hence an InputError, and nothing is read."""
    try:
        size = os.fstat(_only(descriptors)).st_size
        if size > most_bytes:
            raise InputError("document", f"is {size} bytes long, more than the {most_bytes} allowed")
        return read_sealed(descriptors[0], most_bytes)
    finally:
        close_all(descriptors)


def _only(descriptors: tuple[int, ...]) -> int:
    if len(descriptors) != 1:
        raise BadDescriptor(f"{len(descriptors)} descriptors came instead of one")
    return descriptors[0]
