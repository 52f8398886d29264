# SPDX-License-Identifier: Apache-2.0
"""Every message crosses the boundary unchanged; nothing that is not exactly a message does."""

import contextlib
import typing
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.codec import MAX_FRAME_BYTES, MAX_ITEMS, decode, encode
from ipc.errors import MalformedMessage
from ipc.messages import BY_NAME, CATALOGUE, InputRefused, Message, PlanComplete, SetPassword
from ipc.secret import Secret

PATTERNS = {
    "reader": st.sampled_from(["udf", "iso"]),
    "key_type": st.sampled_from(["rsa", "ecdsa", "ed25519", "auto", "dsa"]),
    "algorithm": st.sampled_from(["rsa", "ecdsa", "ed25519", "dsa"]),
    "sha256": st.sampled_from(["A" * 43, "a0+/" * 10 + "Zz9"]),
    "password_salt": st.sampled_from(["a0" * 32, "Z9" * 32]),
    "password_crypt_id": st.sampled_from(["1", "2a", "5", "6"]),
}


def _values(hint: Any, name: str) -> st.SearchStrategy[Any]:
    """Values that a field of type `hint` may have."""
    if name in PATTERNS:
        return PATTERNS[name]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _bounded(hint)
    if origin is tuple:
        return st.lists(_values(arguments[0], ""), min_size=1, max_size=3).map(tuple)
    if arguments:
        return st.one_of(*(st.none() if kind is type(None) else _values(kind, "") for kind in arguments))
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return _instances(hint)
    simple: dict[Any, st.SearchStrategy[Any]] = {
        str: st.text(st.characters(codec="utf-8"), max_size=40),
        int: st.integers(0, 2**40),
        bool: st.booleans(),
    }
    return simple[hint]


def _bounded(hint: Any) -> st.SearchStrategy[Any]:
    base, meta = typing.get_args(hint)[:2]
    if base is str:
        most = min(meta.max_length or 40, 40)
        return st.text(st.characters(codec="utf-8"), min_size=meta.min_length or 0, max_size=most)
    if base is int:
        return st.integers(0 if meta.ge is None else meta.ge, 2**40 if meta.le is None else meta.le)
    return _values(base, "")


def _instances(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return st.builds(kind, **{name: _values(hints[name], name) for name in kind.__struct_fields__})


@given(st.one_of(*(_instances(kind) for kind in CATALOGUE)), st.integers(0, 2**32), st.integers(0, 4))
def test_every_message_comes_back_as_it_was(message: Message, sequence: int, descriptors: int) -> None:
    frame = decode(encode(message, sequence, descriptors))
    assert (frame.message, frame.sequence, frame.descriptors) == (message, sequence, descriptors)
    assert type(frame.message) is type(message)


@given(st.binary(max_size=400))
def test_noise_is_refused_or_is_a_message(noise: bytes) -> None:
    try:
        frame = decode(noise)
    except MalformedMessage:
        return
    assert type(frame.message).__name__ in BY_NAME


@given(st.one_of(*(_instances(kind) for kind in CATALOGUE)), st.data())
def test_a_flipped_byte_never_does_worse_than_be_refused(message: Message, data: st.DataObject) -> None:
    frame = bytearray(encode(message, 0))
    frame[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(1, 255))
    name = "refused"
    with contextlib.suppress(MalformedMessage):
        name = type(decode(bytes(frame)).message).__name__
    assert name == "refused" or name in BY_NAME


GOOD = [1, 0, "PlanComplete", {"proposals": 1}, 0]


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (b"", "not msgpack"),
        (msgpack.packb(GOOD) + b"\0", "not msgpack"),
        (msgpack.packb(GOOD[:4]), "frame is not"),
        (msgpack.packb([2, *GOOD[1:]]), "version"),
        (msgpack.packb([True, *GOOD[1:]]), "version"),
        (msgpack.packb([1, -1, *GOOD[2:]]), "sequence"),
        (msgpack.packb([1, True, *GOOD[2:]]), "sequence"),
        (msgpack.packb([*GOOD[:4], 5]), "descriptor count"),
        (msgpack.packb([*GOOD[:4], True]), "descriptor count"),
        (msgpack.packb([1, 0, "Nothing", {}, 0]), "no message is called"),
        (msgpack.packb([1, 0, "PlanComplete", {"proposals": True}, 0]), "Expected `int`"),
        (msgpack.packb([1, 0, "PlanComplete", {"proposals": 1.0}, 0]), "Expected `int`"),
        (msgpack.packb([1, 0, "PlanComplete", {"proposals": float("nan")}, 0]), "Expected `int`"),
        (msgpack.packb([1, 0, "PlanComplete", {"proposals": 1, "more": 1}, 0]), "unknown field"),
        (msgpack.packb([1, 0, "PlanComplete", {}, 0]), "missing required"),
        (msgpack.packb([1, 0, "PlanComplete", {1: 1}, 0]), "not msgpack"),
        (msgpack.packb([1, 0, "PlanComplete", {"proposals": msgpack.ExtType(1, b"")}, 0]), "extension type"),
        (msgpack.packb([1, 0, "PlanComplete", {"proposals": msgpack.ExtType(1, b"x")}, 0]), "not msgpack"),
        (b"\x95\x01\x00\xacPlanComplete\x82\xa9proposals\x01\xa9proposals\x02\x00", "duplicate key"),
        (b"\xdd\xff\xff\xff\xff", "not msgpack"),
        (b"\x91" * 100_000, "not msgpack"),
        (b"\x95\x01\x00\xacPlanComplete\x81\xa9proposals\xa1\xff\x00", "not msgpack"),
        (msgpack.packb([1, 0, "PlanComplete", {"proposals": [0] * (MAX_ITEMS + 1)}, 0]), "not msgpack"),
        (b"\xc0" * (MAX_FRAME_BYTES + 1), "over the limit"),
    ],
)
def test_bad_frames_are_refused_with_a_reason(frame: bytes, said: str) -> None:
    with pytest.raises(MalformedMessage, match=said):
        decode(frame)


def test_what_is_not_in_the_catalogue_is_not_sent() -> None:
    class Stranger(Message, frozen=True):
        pass

    with pytest.raises(MalformedMessage, match="not in the catalogue"):
        encode(Stranger(), 0)


def test_a_message_too_long_for_a_frame_is_not_sent() -> None:
    with pytest.raises(MalformedMessage, match="over the limit"):
        encode(InputRefused("x", "y" * MAX_FRAME_BYTES), 0)


def test_a_secret_shows_in_no_representation() -> None:
    message = SetPassword("user", Secret("canary"))
    assert "canary" not in f"{message} {message!r} {message.password_hash}"
    assert message.password_hash.reveal() == "canary"


def test_a_refusal_names_no_content() -> None:
    body = {"user_name": 7, "password_hash": {"value": "canary"}}
    with pytest.raises(MalformedMessage) as refusal:
        decode(msgpack.packb([1, 0, "SetPassword", body, 0]))
    assert "canary" not in str(refusal.value)


def test_a_message_has_the_bytes_that_both_sides_agreed_on() -> None:
    assert encode(PlanComplete(7), 3) == b"\x95\x01\x03\xacPlanComplete\x81\xa9proposals\x07\x00"
