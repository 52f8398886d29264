# SPDX-License-Identifier: Apache-2.0
"""Sockets for the client to the host: none before it is decided which, and what is known of those that were given."""

import socket
from collections.abc import Iterator

import pytest

from supervisor.births import Births
from supervisor.clock import SystemClock
from supervisor.dispatch import Table
from supervisor.egress.probe import why_stopped
from supervisor.egress.sockets import Sockets
from supervisor.fleet import Fleet, Unavailable
from supervisor.layout import Layout
from supervisor.loop import Loop
from tests.jail.profiles import profile
from tests.unit.supervisor.turned import run, turn_until


class Bench:
    """Sockets, and a fleet whose spawner never answers."""

    def __init__(self) -> None:
        ours, self.spawner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours = ours
        self.loop = Loop(SystemClock())
        births = Births(self.loop, Table([]), ours, Layout(), lambda *_: None)
        profiles = dict.fromkeys(("wire-socket", "verifier"), profile())
        self.fleet = Fleet(self.loop, profiles, births, lambda: 0.5, lambda *_: None)
        self.sockets = Sockets(self.loop, self.fleet)


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.ours.close()
    bench.spawner.close()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def test_nobody_gets_one_before_it_is_decided(bench: Bench) -> None:
    taken = bench.loop.start("take", bench.sockets.take())
    for _ in range(3):
        bench.loop.call_later(0.01, lambda: None)
        bench.loop.turn()
    assert not taken.done
    bench.sockets.decide(by_uid=False)
    turn_until(bench.loop, lambda: taken.done)
    taken.result().close()
    bench.sockets.withhold()
    assert not bench.sockets.are_decided


def test_the_ports_of_those_that_are_open(bench: Bench, listener: socket.socket) -> None:
    bench.sockets.decide(by_uid=False)
    made = [run(bench.loop, bench.sockets.take()) for _ in range(3)]
    assert list(bench.sockets.ports) == []
    for one in made[:2]:
        one.connect_ex(listener.getsockname())
    ports = [one.getsockname()[1] for one in made[:2]]
    assert list(bench.sockets.ports) == ports
    made[0].close()
    assert list(bench.sockets.ports) == ports[1:]
    for one in made[1:]:
        one.close()


def test_without_a_worker_there_is_none_of_the_rules_uid(bench: Bench) -> None:
    bench.fleet.winding_up = True
    bench.sockets.decide(by_uid=True)
    with pytest.raises(OSError, match="the service is stopping"):
        run(bench.loop, bench.sockets.take())
    with pytest.raises(Unavailable):
        run(bench.loop, bench.fleet.start("wire-socket"))


def test_the_probe_tells_why_it_is_stopped(bench: Bench, listener: socket.socket) -> None:
    address = listener.getsockname()
    assert run(bench.loop, why_stopped(bench.loop, run(bench.loop, bench.sockets.make(by_uid=False)), address)) == ""
    listener.close()
    why = run(bench.loop, why_stopped(bench.loop, run(bench.loop, bench.sockets.make(by_uid=False)), address))
    assert why == "connection refused"
