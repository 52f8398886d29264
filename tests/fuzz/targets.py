# SPDX-License-Identifier: Apache-2.0
"""The formats under fuzz: how input N of each is made, and what must hold whatever the reader says to it."""

import lzma
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from ipc import codec
from ipc.errors import InputError, MalformedMessage
from ipc.messages import ExtensionsGoalState, Message, VmSettings
from tests.fuzz import channel_targets, iso_mutations, json_mutations, package_target, text_mutations, udf_mutations
from tests.fuzz.medium import Medium
from workers.parser import (
    artifacts_profile,
    bounds,
    certificate_file,
    channel_key,
    event_file,
    event_record,
    extension_policy,
    extensions_config,
    goal_state,
    handler_manifest,
    heartbeat,
    hosting_environment,
    instance_metadata,
    iso,
    key_status,
    ovf,
    package_manifest,
    plugin_versions,
    remote_access,
    status_file,
    udf,
    versions,
    vm_settings,
    xml,
)
from workers.parser.blocks import Blocks
from workers.parser.main import BUDGET_BYTES, OVF_NAME

SEED = 20261123
SAMPLES = Path(__file__).resolve().parents[1] / "data"
PASSWORD = "Tr0ub4dor"
# How the secure channel's keys in the samples begin.
KEY = "5ec4e7c0ffee"

# One attempt: the outcome in a word or the refusal's text; anything else that comes out is a finding.
Attempt = Callable[[int], str]


class Broken(AssertionError):
    """A reader gave an answer that it must never give."""


def target(name: str) -> Attempt:
    """The attempt of the format called `name`: from an input's number to its outcome."""
    return (TARGETS | channel_targets.TARGETS | package_target.TARGETS)[name](name)


def _draw(name: str, number: int) -> random.Random:
    return random.Random(SEED + number * len(TARGETS) + list(TARGETS).index(name))


def _outcome(read: Callable[[], None]) -> str:
    try:
        read()
    except InputError as refused:
        problem = str(refused)
        if PASSWORD in problem or "MemoryError" in problem or ": " not in problem:
            raise Broken(problem) from None
        return problem
    return "accepted"


# --- media --------------------------------------------------------------------------------------------------------


def _image(path: str) -> Medium:
    return Medium(path, lzma.decompress((SAMPLES / path).read_bytes()))


def _udf(name: str) -> Attempt:
    images = [udf_mutations.survey(_image(f"udf/{path}.img.xz")) for path in UDF_SEEDS]

    def attempt(number: int) -> str:
        draw = _draw(name, number)
        image = draw.choice(images)
        path = draw.choice(((OVF_NAME,), (OVF_NAME,), ("nested", "large.xml"), ("many", OVF_NAME)))
        udf_mutations.mutate(image, draw)
        return _on_medium(image.medium, lambda blocks: udf.read_file(blocks, path, bounds.MAX_DOCUMENT_BYTES))

    return attempt


def _iso(name: str) -> Attempt:
    images = [iso_mutations.survey(_image(f"iso/{path}.iso.xz")) for path in ISO_SEEDS]

    def attempt(number: int) -> str:
        draw = _draw(name, number)
        image = draw.choice(images)
        iso_mutations.mutate(image, draw)
        return _on_medium(image.medium, lambda blocks: iso.read_file(blocks, OVF_NAME, bounds.MAX_DOCUMENT_BYTES))

    return attempt


def _on_medium(medium: Medium, read: Callable[[Blocks], bytes]) -> str:
    def attempt() -> None:
        document = read(Blocks(medium.descriptor, medium.size_bytes, BUDGET_BYTES))
        if len(document) > bounds.MAX_DOCUMENT_BYTES:
            raise Broken(f"{len(document)} bytes came out")

    try:
        return _outcome(attempt)
    finally:
        medium.restore()


# --- documents ----------------------------------------------------------------------------------------------------


def _ovf(name: str) -> Attempt:
    def check(document: bytes) -> None:
        parsed = ovf.parse(document)
        _fits(parsed.ovf)
        if parsed.ovf.password is not None:
            tree = xml.parse(parsed.redacted, namespaces=True)
            # Of whatever namespace: one around all the others is redacted whole.
            named = [one for one in (tree, *tree.descendants()) if one.name.rpartition(" ")[2] == "UserPassword"]
            if "*" not in (found := {element.text for element in named}) or not found <= {"*", None}:
                raise Broken("the copy has a password")

    return _documents(name, check)


def _xml(read: Callable[[bytes], Message]) -> Callable[[str], Attempt]:
    return lambda name: _documents(name, lambda document: _fits(read(document)))


def _envelope(document: bytes) -> Message:
    message, der = certificate_file.parse(document)
    if der and not der.startswith(b"\x30"):
        raise Broken("what is no DER came out")
    return message


def _goal_of_xml(document: bytes) -> Message:
    return _without_secrets(*extensions_config.parse(document))


def _goal_of_json(document: bytes) -> Message:
    return _without_secrets(*vm_settings.parse(document))


def _without_secrets(
    message: ExtensionsGoalState | VmSettings, copy: bytes, settings: bytes
) -> ExtensionsGoalState | VmSettings:
    """The message, whose copy has no query of a URL that the message has, and no signature; its spans are within the
    settings, and each settings file is one."""
    found = message.goal_state if isinstance(message, VmSettings) else message
    urls = [found.status_blob.url, found.profile_url, *(url for plugin in found.plugins for url in plugin.locations)]
    queries = [url.partition("?")[2].encode() for url in urls if url.startswith("http")]
    if b"sig=" in copy.lower() or any(query in copy for query in queries if len(query) > 3):
        raise Broken("the copy has a secret")
    for plugin in found.plugins:
        for each in plugin.settings:
            file = settings[each.file.start : each.file.start + each.file.size]
            if len(file) != each.file.size or (file and len(_handler_settings(file)) != 3):
                raise Broken("a settings file is none")
    return message


def _status(document: bytes) -> Message:
    status = status_file.parse(document)
    told = (status.message, *(text for each in status.substatuses for text in (each.name, each.message)))
    if any(f"sig={PASSWORD}" in text for text in told):
        raise Broken("a token is told")
    return status


def _handler_settings(file: bytes) -> dict[str, Any]:
    try:
        match msgspec.json.decode(file):
            case {"runtimeSettings": [{"handlerSettings": dict(found)}]}:
                return found
    except msgspec.DecodeError:
        pass
    return {}


def _json(read: Callable[[bytes], Message]) -> Callable[[str], Attempt]:
    def target(name: str) -> Attempt:
        seeds = [path.read_bytes() for path in sorted((SAMPLES / name).iterdir())]

        def attempt(number: int) -> str:
            draw = _draw(name, number)
            document = json_mutations.mutate(draw.choice(seeds), draw)
            outcome = _outcome(lambda: _fits(read(document)))
            if KEY in outcome.lower():
                raise Broken(outcome)
            return outcome

        return attempt

    return target


def _fits(message: Message) -> None:
    """What a reader accepts can be handed over, and the other side takes it for the same."""
    try:
        same = codec.decode(codec.encode(message, 0)).message == message
    except MalformedMessage as error:
        raise Broken(f"can't be handed over: {error}") from None
    if not same:
        raise Broken("is another message on the other side")


def _documents(name: str, check: Callable[[bytes], None]) -> Attempt:
    seeds = [path.read_bytes() for path in sorted((SAMPLES / name).iterdir())]
    others = [path.read_bytes() for folder in DOCUMENT_FOLDERS for path in sorted((SAMPLES / folder).iterdir())]

    def attempt(number: int) -> str:
        draw = _draw(name, number)
        document = text_mutations.mutate(draw.choice(seeds), others, draw)
        return _outcome(lambda: check(document))

    return attempt


DOCUMENT_FOLDERS = ("ovf", "goal-state", "versions", "extensions-config", "remote-access", "certificate-file")
TARGETS: dict[str, Callable[[str], Attempt]] = {
    "udf": _udf,
    "iso": _iso,
    "ovf": _ovf,
    "goal-state": _xml(goal_state.parse),
    "versions": _xml(versions.parse),
    "key-status": _json(key_status.parse),
    "channel-key": _json(channel_key.parse),
    "extensions-config": _xml(_goal_of_xml),
    "vm-settings": _json(_goal_of_json),
    "certificate-file": _xml(_envelope),
    "hosting-environment": _xml(hosting_environment.parse),
    "remote-access": _xml(remote_access.parse),
    "artifacts-profile": _json(artifacts_profile.parse),
    "instance-metadata": _json(instance_metadata.parse),
    "plugin-versions": _json(plugin_versions.parse),
    "event-file": _json(event_file.parse),
    "event-record": _json(event_record.parse),
    "package-manifest": _xml(lambda document: package_manifest.parse(document, "1.2")),
    "handler-manifest": _json(handler_manifest.parse),
    "status-file": _json(_status),
    "heartbeat": _json(heartbeat.parse),
    "extension-policy": _json(extension_policy.parse),
}
UDF_SEEDS = (
    "hd-1.02-2048",
    "hd-2.01-512",
    "hd-2.00-512-long",
    "hd-2.01-4096",
    "cdrw-1.50-512",
    "dvdrw-2.00-2048",
    "ours-1.50-virtual-512",
    "ours-2.00-virtual-2048",
    "ours-2.01-sparable-2048",
    "ours-2.50-metadata-2048",
    "ours-2.60-metadata-512",
)
ISO_SEEDS = ("xorriso-both", "xorriso-joliet", "xorriso-plain", "xorriso-mbr-in-front", "makefs-rock-ridge")
