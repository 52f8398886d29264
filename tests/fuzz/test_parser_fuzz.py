# SPDX-License-Identifier: Apache-2.0
"""Mutated media and documents: only InputError may come out of a reader, soon, and never with the password in it."""

import binascii
import os
import struct
from collections.abc import Callable
from typing import TypeVar

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipc.descriptors import sealed_memfd
from ipc.errors import InputError
from tests.fabric.media import make_bridge, make_ovf
from tests.fabric.udf_writer import UdfForm, make_udf
from workers.parser import goal_state, iso, ovf, udf, versions, xml
from workers.parser.blocks import Blocks
from workers.parser.main import BUDGET_BYTES, OVF_NAME

T = TypeVar("T")

PASSWORD = "Tr0ub4dor"
OVF = make_ovf(password=PASSWORD, keys=["ssh-ed25519 AAAA a"], key_pairs=[("/p", "T")], custom_data=b"x" * 3000)
IMAGES = [
    make_udf(OVF, UdfForm(block_bytes=512, fragments=3, continued=True, deleted_entry=True)),
    make_udf(OVF, UdfForm(partition="sparable", allocation="long", revision=0x150)),
    make_udf(OVF, UdfForm(partition="virtual", strategy=4096, revision=0x201, extended_entry=True)),
    make_udf(OVF, UdfForm(partition="metadata", allocation="extended", revision=0x250, wide_names=True)),
]
BRIDGE = make_bridge(OVF)
DOCUMENTS = [
    OVF,
    b"<GoalState><Incarnation>1</Incarnation><Container/></GoalState>",
    b"<Versions><Preferred/></Versions>",
]

THOROUGH = settings(max_examples=300, deadline=2000, suppress_health_check=[HealthCheck.too_slow])

# What makes fields go wrong in the ways that matter: zero, all ones, one too many, the highest.
VALUES = st.one_of(
    st.sampled_from([b"\0", b"\xff", b"\0" * 4, b"\xff" * 4, b"\xff\xff\xff\x3f", b"\x01\0\0\0", b"\0\0\0\xc0"]),
    st.binary(min_size=1, max_size=8),
)


def tagged_blocks(image: bytes) -> list[int]:
    """Where descriptors stand: every 512 bytes that open with a right tag checksum."""
    starts = range(0, len(image) - 512, 512)
    return [at for at in starts if any(image[at : at + 2]) and tag_sum(image[at : at + 16]) == image[at + 4]]


def tag_sum(tag: bytes) -> int:
    return (sum(tag[:4]) + sum(tag[5:16])) % 256


def sign(image: bytearray, at: int) -> None:
    """A right checksum and CRC, so that a mutation is not stopped at the first gate."""
    length = struct.unpack_from("<H", image, at + 10)[0]
    struct.pack_into("<H", image, at + 8, binascii.crc_hqx(bytes(image[at + 16 : at + 16 + length]), 0))
    image[at + 4] = tag_sum(bytes(image[at : at + 16]))


TAGGED = [tagged_blocks(image) for image in IMAGES]


@st.composite
def udf_images(draw: st.DrawFn) -> bytes:
    which = draw(st.integers(0, len(IMAGES) - 1))
    image = bytearray(IMAGES[which])
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.sampled_from(TAGGED[which]))
        at, value = start + draw(st.integers(0, 500)), draw(VALUES)
        image[at : at + len(value)] = value
        if draw(st.booleans()):
            sign(image, start)
    return bytes(image[: draw(st.sampled_from([len(image), len(image), len(image) - 2048, len(image) // 2]))])


@st.composite
def bridge_images(draw: st.DrawFn) -> bytes:
    image = bytearray(BRIDGE)
    for _ in range(draw(st.integers(1, 5))):
        sector = draw(st.one_of(st.integers(16, 40), st.integers(16, len(BRIDGE) // 2048 - 1)))
        at, value = sector * 2048 + draw(st.integers(0, 250)), draw(VALUES)
        image[at : at + len(value)] = value
    return bytes(image[: len(BRIDGE)])


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    document = bytearray(draw(st.sampled_from(DOCUMENTS)))
    pieces = st.one_of(
        VALUES,
        st.sampled_from(
            [b"<", b">", b"&", b"&x;", b"<![CDATA[", b"]]>", b"<!--", b"<a>", b"</", b"'", b"<!DOCTYPE a>"]
        ),
        st.sampled_from([b"<UserPassword>", b"</UserPassword>", b"<PublicKey>", b" xmlns='urn:u'", b"<Version>"]),
    )
    for _ in range(draw(st.integers(1, 6))):
        at, drop = draw(st.integers(0, len(document))), draw(st.integers(0, 12))
        document[at : at + drop] = draw(pieces)
    return bytes(document)


def outcome(read: Callable[[], T]) -> T | None:
    """What `read` gives, or None for an InputError, whose text never holds the password; anything else comes out."""
    try:
        return read()
    except InputError as refused:
        problem = str(refused)
    assert ": " in problem
    assert PASSWORD not in problem
    return None


def on_medium(image: bytes, read: Callable[[Blocks], bytes]) -> None:
    descriptor = sealed_memfd("medium", image)
    try:
        document = outcome(lambda: read(Blocks(descriptor, len(image), BUDGET_BYTES["udf"])))
    finally:
        os.close(descriptor)
    assert document is None or len(document) <= xml.MAX_DOCUMENT_BYTES


@THOROUGH
@given(udf_images())
def test_no_mutated_udf_image_gets_more_than_an_input_error_out(image: bytes) -> None:
    on_medium(image, lambda blocks: udf.read_file(blocks, (OVF_NAME,), xml.MAX_DOCUMENT_BYTES))


@THOROUGH
@given(bridge_images())
def test_no_mutated_iso_image_gets_more_than_an_input_error_out(image: bytes) -> None:
    on_medium(image, lambda blocks: iso.read_file(blocks, OVF_NAME, xml.MAX_DOCUMENT_BYTES))


@THOROUGH
@given(documents())
def test_no_mutated_document_gets_more_than_an_input_error_out(document: bytes) -> None:
    outcome(lambda: goal_state.parse(document))
    outcome(lambda: versions.parse(document))
    parsed = outcome(lambda: ovf.parse(document))
    if parsed is not None and parsed.ovf.password is not None:
        tree = xml.parse(parsed.redacted, namespaces=True)
        assert tree.text_of(f"{ovf.WA_NAMESPACE} UserPassword") == "*"


@THOROUGH
@given(st.binary(max_size=4096))
def test_random_bytes_are_refused(data: bytes) -> None:
    assert outcome(lambda: ovf.parse(data)) is None
    assert outcome(lambda: goal_state.parse(data)) is None
    assert outcome(lambda: versions.parse(data)) is None
