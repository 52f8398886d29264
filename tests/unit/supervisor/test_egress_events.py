# SPDX-License-Identifier: Apache-2.0
"""The watch over our nftables table, on messages as the kernel lays them out: whose table, and who it was."""

import os
import random
import socket
import struct
from collections.abc import Iterator

import pytest

from policy.egress.netlink import attributes, messages
from supervisor.clock import SystemClock
from supervisor.egress.choice import again_within
from supervisor.egress.events import UNKNOWN, Watch
from supervisor.loop import Loop
from tests.unit.supervisor.turned import turn_until

NEWTABLE, DELTABLE, NEWCHAIN, NEWRULE, NEWGEN, NEWSETELEM = 0, 2, 3, 6, 15, 12
IP, BRIDGE = 2, 7


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def message(kind: int, *held: bytes, family: int = IP, subsystem: int = 10) -> bytes:
    content = bytes([family, 0, 0, 1]) + b"".join(held)
    return struct.pack("=IHHII", 16 + len(content), subsystem << 8 | kind, 0, 7, 0) + content


def about(kind: int, table: str, family: int = IP) -> bytes:
    return message(kind, attribute(1, table.encode() + b"\0"), attribute(7, b"something else"), family=family)


def by(pid: int, name: bytes) -> bytes:
    return message(NEWGEN, attribute(1, struct.pack("!I", 9)), attribute(2, struct.pack("!I", pid)), attribute(3, name))


class Bench:
    """The test is the kernel: `kernel` is its end."""

    def __init__(self) -> None:
        ours, self.kernel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.loop = Loop(SystemClock())
        self.told: list[str] = []
        self.watch = Watch(self.loop, ours.detach(), "agent_supervisor", self.told.append)

    def tells(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self.kernel.send(datagram)
        self.kernel.send(by(1, b"last"))
        self.loop.turn()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.watch.close()
    bench.kernel.close()


@pytest.mark.parametrize("family", [IP, BRIDGE])
@pytest.mark.parametrize("kind", [NEWTABLE, DELTABLE, NEWCHAIN, NEWRULE, NEWSETELEM])
def test_any_change_of_our_table_is_told_with_its_maker(bench: Bench, kind: int, family: int) -> None:
    bench.tells(about(kind, "agent_supervisor", family), by(4321, b"nft\0"))
    assert bench.told == ["nft, pid 4321"]


def test_messages_of_one_transaction_may_come_together_or_apart(bench: Bench) -> None:
    bench.tells(about(DELTABLE, "nat") + about(DELTABLE, "agent_supervisor") + about(NEWRULE, "x"), by(7, b"fw"))
    assert bench.told == ["fw, pid 7"]


def test_others_tables_are_none_of_ours(bench: Bench) -> None:
    bench.tells(
        about(NEWTABLE, "nat") + by(1, b"nft"),
        about(NEWRULE, "agent_supervisor2"),
        about(NEWRULE, "agent_superviso"),
        message(NEWRULE, attribute(2, b"agent_supervisors\0")),
        message(NEWRULE, attribute(1, b"agent_supervisor\0"), subsystem=1),
        by(2, b"agent_supervisor"),
    )
    assert bench.told == []


@pytest.mark.parametrize("chain", [b"agent_supervisor\0", b"agent_supervisor-in\0"])
def test_a_chain_of_ours_in_a_table_of_others_is_ours(bench: Bench, chain: bytes) -> None:
    # By iptables ours are chains of the table "filter", which is everybody's.
    bench.tells(message(NEWRULE, attribute(1, b"filter\0"), attribute(2, chain)), by(3, b"iptables"))
    assert bench.told == ["iptables, pid 3"]


def test_who_was_not_named_changed_it_all_the_same(bench: Bench) -> None:
    bench.kernel.send(about(DELTABLE, "agent_supervisor"))
    turn_until(bench.loop, lambda: bool(bench.told))
    assert bench.told == [UNKNOWN]


def test_a_name_is_made_printable(bench: Bench) -> None:
    bench.tells(about(DELTABLE, "agent_supervisor"), by(5, b"\x1b[2Jx\xff\0"))
    assert bench.told == ["?[2Jx\N{REPLACEMENT CHARACTER}, pid 5"]


def test_it_tells_once_and_is_deaf_then(bench: Bench) -> None:
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    bench.tells(about(DELTABLE, "agent_supervisor"), by(5, b"nft\0"), about(DELTABLE, "agent_supervisor"))
    bench.watch.close()
    turn_until(bench.loop, lambda: not bench.loop._due)
    assert bench.told == ["nft, pid 5"]
    assert len(before - set(os.listdir("/proc/self/fd"))) == 1  # noqa: PTH208


def test_what_no_kernel_has_sent_is_no_news() -> None:
    """Netlink between processes, where any may send: the kernel alone is port 0."""
    with (
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_USERSOCK) as ours,
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_USERSOCK) as liar,
    ):
        ours.bind((0, 0))
        loop, told = Loop(SystemClock()), list[str]()
        watch = Watch(loop, os.dup(ours.fileno()), "agent_supervisor", told.append)
        liar.sendto(about(DELTABLE, "agent_supervisor") + by(5, b"nft\0"), ours.getsockname())
        loop.turn()
        assert told == []
        assert not loop._due
        watch.close()


@pytest.mark.parametrize("failures", [1, 2, 1023, 1024, 100_000])
def test_it_is_tried_again_however_often_it_has_failed(failures: int) -> None:
    assert again_within(failures, 300) == min(2**failures / 2 if failures < 12 else 300, 300)
    assert again_within(0, 300) == 300


def test_bytes_of_any_kind_are_read_to_an_end() -> None:
    chance = random.Random(5)
    good = about(NEWRULE, "agent_supervisor") + by(5, b"nft\0")
    for _ in range(3000):
        damaged = bytearray(good)
        for _ in range(chance.randrange(1, 6)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        datagram = bytes(damaged[: chance.randrange(len(damaged) + 1)])
        for _, content in messages(datagram):
            assert sum(len(value) for _, value in attributes(content[4:])) <= len(content)
