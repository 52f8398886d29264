# SPDX-License-Identifier: Apache-2.0
"""Every message crosses the boundary unchanged; nothing that is not exactly a message does."""

import contextlib
import subprocess
import sys
import typing
from importlib import import_module
from pathlib import Path
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc import messages
from ipc.codec import MAX_FRAME_BYTES, MAX_ITEMS, decode, encode
from ipc.errors import MalformedMessage
from ipc.messages import CATALOGUE, InputRefused, Message, PlanComplete, SetPassword, Versions
from ipc.secret import Secret
from tests.fabric.vocabulary import ALL


def _values(hint: Any) -> st.SearchStrategy[Any]:
    """Values that a field of type `hint` may have."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _bounded(hint)
    if origin is tuple:
        return _tuples(arguments)
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if arguments:
        return st.one_of(*(st.none() if kind is type(None) else _values(kind) for kind in arguments))
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return _instances(hint)
    simple: dict[Any, st.SearchStrategy[Any]] = {
        str: st.text(st.characters(codec="utf-8"), max_size=40),
        int: st.integers(0, 2**40),
        bool: st.booleans(),
    }
    return simple[hint]


def _tuples(kinds: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    if kinds[-1] is Ellipsis:
        return st.lists(_values(kinds[0]), min_size=1, max_size=3).map(tuple)
    return st.tuples(*(_values(kind) for kind in kinds))


def _bounded(hint: Any) -> st.SearchStrategy[Any]:
    base, meta = typing.get_args(hint)[:2]
    if base is str and meta.pattern:
        most = meta.max_length or 64
        return st.from_regex(meta.pattern).filter(lambda text: len(text) <= most and "\n" not in text)
    if base is str:
        most = min(meta.max_length or 40, 40)
        return st.text(st.characters(codec="utf-8"), min_size=meta.min_length or 0, max_size=most)
    if base is int:
        return st.integers(0 if meta.ge is None else meta.ge, 2**40 if meta.le is None else meta.le)
    if base is float:  # a message's numbers of this kind have bounds at both ends
        return st.floats(meta.gt, meta.le, exclude_min=True)
    return _values(base)


def _instances(kind: type[msgspec.Struct]) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return st.builds(kind, **{name: _values(hints[name]) for name in kind.__struct_fields__})


@given(st.one_of(*(_instances(kind) for kind in ALL)), st.integers(0, 2**32), st.integers(0, 4))
def test_every_message_comes_back_as_it_was(message: Message, sequence: int, descriptors: int) -> None:
    frame = decode(encode(message, sequence, descriptors))
    assert (frame.message, frame.sequence, frame.descriptors) == (message, sequence, descriptors)
    assert type(frame.message) is type(message)


def _patterns(hint: Any) -> set[str]:
    if isinstance(hint, msgspec.Meta):
        return {hint.pattern} if hint.pattern else set()
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        parts: Any = typing.get_type_hints(hint, include_extras=True).values()
    else:
        parts = typing.get_args(hint)
    return set().union(*map(_patterns, parts))


def test_no_pattern_takes_a_line_end_for_the_end() -> None:
    """As `$` does: a name with one more line would pass."""
    patterns = set().union(*map(_patterns, ALL))
    assert len(patterns) > 10
    assert {pattern for pattern in patterns if not pattern.endswith(r"\Z")} == set()


@given(st.binary(max_size=400))
def test_noise_is_refused_or_is_a_message(noise: bytes) -> None:
    try:
        frame = decode(noise)
    except MalformedMessage:
        return
    assert type(frame.message).__name__ in CATALOGUE


@given(st.one_of(*(_instances(kind) for kind in ALL)), st.data())
def test_a_flipped_byte_never_does_worse_than_be_refused(message: Message, data: st.DataObject) -> None:
    frame = bytearray(encode(message, 0))
    frame[data.draw(st.integers(0, len(frame) - 1))] ^= data.draw(st.integers(1, 255))
    name = "refused"
    with contextlib.suppress(MalformedMessage):
        name = type(decode(bytes(frame)).message).__name__
    assert name == "refused" or name in CATALOGUE


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


@pytest.mark.parametrize("field", ["address", "cgroup"])
def test_no_line_ends_behind_what_a_rule_is_made_of(field: str) -> None:
    body = {"mechanism": "nft-cgroup", "mode": "enforce", "address": "168.63.129.16", "cgroup": "a/b"}
    decode(msgpack.packb([1, 0, "GuardEgress", {"rule": body}, 0]))
    with pytest.raises(MalformedMessage):
        decode(msgpack.packb([1, 0, "GuardEgress", {"rule": body | {field: f"{body[field]}\n"}}, 0]))


def test_a_message_has_the_bytes_that_both_sides_agreed_on() -> None:
    assert encode(PlanComplete(7), 3) == b"\x95\x01\x03\xacPlanComplete\x81\xa9proposals\x07\x00"


def test_the_catalogue_names_every_message_where_it_is() -> None:
    """Each class of each module by one name, either sendable or a part; no module without a line."""
    folder = Path(messages.__file__).parent
    modules = {path.stem for path in folder.glob("*.py")} - {"__init__", "base"}
    assert {f"ipc.messages.{module}" for module in modules} == set(messages.VOCABULARIES)
    named = {*CATALOGUE, *(name for names in messages._PARTS.values() for name in names.split())}
    for module in map(import_module, messages.VOCABULARIES):
        own = {name for name, kind in vars(module).items() if getattr(kind, "__module__", "") == module.__name__}
        assert {name for name in own if isinstance(getattr(module, name), type)} <= named
    assert all(getattr(messages, name).__name__ == name for name in named)
    with pytest.raises(AttributeError, match="Nonsense"):
        _ = messages.Nonsense  # type: ignore[attr-defined]


def test_a_process_understands_only_the_vocabularies_that_it_has_loaded() -> None:
    code = (
        "import sys; from ipc.codec import decode; from ipc.errors import MalformedMessage\n"
        "frame = bytes.fromhex(sys.argv[1])\n"
        "try: decode(frame)\n"
        "except MalformedMessage as error: print(error)\n"
        "from ipc.messages import Versions; print('ipc.messages.policy' in sys.modules, decode(frame).message)\n"
    )
    frame = encode(Versions("1", ()), 0).hex()
    done = subprocess.run([sys.executable, "-c", code, frame], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.splitlines() == [
        "no message is called 'Versions' here",
        "False Versions(preferred='1', supported=())",
    ]
