# SPDX-License-Identifier: Apache-2.0
"""The formats under fuzz: how input N of each is made, and what must hold whatever the reader says to it."""

import lzma
import random
from collections.abc import Callable
from pathlib import Path

from ipc import codec
from ipc.errors import InputError, MalformedMessage
from ipc.messages import Message
from tests.fuzz import iso_mutations, text_mutations, udf_mutations
from tests.fuzz.medium import Medium
from workers.parser import goal_state, iso, ovf, udf, versions, xml
from workers.parser.blocks import Blocks
from workers.parser.main import BUDGET_BYTES, OVF_NAME

SEED = 20261123
SAMPLES = Path(__file__).resolve().parents[1] / "data"
PASSWORD = "Tr0ub4dor"

# One attempt: the outcome in a word or the refusal's text; anything else that comes out is a finding.
Attempt = Callable[[int], str]


class Broken(AssertionError):
    """A reader gave an answer that it must never give."""


def target(name: str) -> Attempt:
    """The attempt of the format called `name`: from an input's number to its outcome."""
    return TARGETS[name](name)


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
        return _on_medium(image.medium, lambda blocks: udf.read_file(blocks, path, xml.MAX_DOCUMENT_BYTES))

    return attempt


def _iso(name: str) -> Attempt:
    images = [iso_mutations.survey(_image(f"iso/{path}.iso.xz")) for path in ISO_SEEDS]

    def attempt(number: int) -> str:
        draw = _draw(name, number)
        image = draw.choice(images)
        iso_mutations.mutate(image, draw)
        return _on_medium(image.medium, lambda blocks: iso.read_file(blocks, OVF_NAME, xml.MAX_DOCUMENT_BYTES))

    return attempt


def _on_medium(medium: Medium, read: Callable[[Blocks], bytes]) -> str:
    def attempt() -> None:
        document = read(Blocks(medium.descriptor, medium.size_bytes, BUDGET_BYTES))
        if len(document) > xml.MAX_DOCUMENT_BYTES:
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


def _goal_state(name: str) -> Attempt:
    return _documents(name, lambda document: _fits(goal_state.parse(document)))


def _versions(name: str) -> Attempt:
    return _documents(name, lambda document: _fits(versions.parse(document)))


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


DOCUMENT_FOLDERS = ("ovf", "goal-state", "versions")
TARGETS: dict[str, Callable[[str], Attempt]] = {
    "udf": _udf,
    "iso": _iso,
    "ovf": _ovf,
    "goal-state": _goal_state,
    "versions": _versions,
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
