# SPDX-License-Identifier: Apache-2.0
"""The fixed records between supervisor and spawner: what goes in comes out, and no other bytes are a record."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.errors import MalformedMessage
from ipc.records import (
    EVENT_BYTES,
    MECHANISMS,
    ORDER_BYTES,
    Event,
    Happened,
    Op,
    Order,
    missing_mask,
    missing_names,
    pack_event,
    pack_order,
    unpack_event,
    unpack_order,
)

U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
I32 = st.integers(-(2**31), 2**31 - 1)
ORDERS = st.builds(Order, st.sampled_from(Op), U64, U32, st.from_regex(r"[a-z0-9-]{0,32}", fullmatch=True))
EVENTS = st.builds(
    Event,
    st.sampled_from(Happened),
    U64,
    I32,
    I32,
    U32,
    U64,
    U32,
    st.text(max_size=40).map(lambda text: text.rstrip("\0")),
)


@given(ORDERS)
def test_an_order_comes_out_as_it_went_in(order: Order) -> None:
    record = pack_order(order)
    assert len(record) == ORDER_BYTES
    assert unpack_order(record) == order


@given(EVENTS)
def test_an_event_comes_out_as_it_went_in(event: Event) -> None:
    record = pack_event(event)
    assert len(record) == EVENT_BYTES
    assert unpack_event(record) == event


@given(st.binary(max_size=2 * EVENT_BYTES))
def test_other_bytes_are_refused(record: bytes) -> None:
    for unpack in (unpack_order, unpack_event):
        with pytest.raises(MalformedMessage):
            unpack(record)


@given(ORDERS, st.integers(0, ORDER_BYTES - 1), st.integers(1, 255))
def test_a_changed_byte_gives_another_order_or_none(order: Order, place: int, change: int) -> None:
    """Every byte means something: no two records say the same."""
    record = bytearray(pack_order(order))
    record[place] ^= change
    try:
        changed = unpack_order(bytes(record))
    except MalformedMessage:
        return
    assert changed != order
    assert pack_order(changed) == bytes(record)


@given(st.binary(min_size=ORDER_BYTES, max_size=ORDER_BYTES).map(lambda tail: b"ASP1" + tail[4:]))
def test_what_is_read_as_an_order_is_the_one_record_of_it(record: bytes) -> None:
    try:
        order = unpack_order(record)
    except MalformedMessage:
        return
    assert pack_order(order) == record


@pytest.mark.parametrize("size", [0, ORDER_BYTES - 1, ORDER_BYTES + 1])
def test_an_order_has_one_size(size: int) -> None:
    with pytest.raises(MalformedMessage, match=f"order of {size} bytes"):
        unpack_order(bytes(size))


@pytest.mark.parametrize("kind", ["../parser", "Parser", "parser.0", "par ser", "pars\u00e9r"])
def test_a_kind_is_a_plain_name(kind: str) -> None:
    record = pack_order(Order(Op.START, 1))[:-32] + kind.encode("latin-1").ljust(32, b"\0")
    with pytest.raises(MalformedMessage, match="not a name"):
        unpack_order(record)


def test_long_text_is_cut() -> None:
    event = unpack_event(pack_event(Event(Happened.REFUSED, 1, text="\u00e9" * 200)))
    assert event.text == "\u00e9" * 80


@given(st.sets(st.sampled_from(MECHANISMS)))
def test_missing_mechanisms_go_by_their_bits(names: set[str]) -> None:
    assert set(missing_names(missing_mask(tuple(names)))) == names
