# SPDX-License-Identifier: Apache-2.0
"""Measures what signing adds to a request: the round trip to the emulated host unsigned and signed, in turn; and alone.

The host runs in a process of its own, and verifies what is signed. No root, no lab.
"""

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ipc.secret import Secret
from supervisor.clock import SystemClock
from supervisor.loop import Loop
from supervisor.wire.host import WireServer
from supervisor.wire.host_time import HostTime
from supervisor.wire.requests import Catalogue
from supervisor.wire.sealing import Sealing
from supervisor.wire.signing import SigningKey
from tests.bench.samples import Budget, Row, in_unit, quantile, timed
from tests.fabric.lab import PROJECT
from tests.fabric.wire_control import ask
from workers.parser import channel_key

# Of the round trip.
MOST_PERCENT = 5.0
ROUNDS = 10


def measure(times: int) -> list[Row]:
    """`times` goal states unsigned and as many signed, in turn, so that a busy moment meets both."""
    with _host() as (address, control):
        loop = Loop(SystemClock())
        wire = WireServer(loop, address[0], port=address[1])
        key = _latched(loop, wire, control)
        plain, signed = _trips(loop, wire, key, times)
        wire.close()
    alone = _alone(key, times)
    # From the cost alone: the difference of two round trips is smaller than how much they vary.
    percent = 100 * quantile(alone, 50) / quantile(plain, 50)
    return [
        Row("goal state there and back, unsigned", "us", in_unit(plain, "us")),
        Row("  signed, and verified by the host", "us", in_unit(signed, "us")),
        Row("  signing alone", "us", in_unit(alone, "us")),
        Row("  signing as a part of the round trip", "%", (percent,), Budget(MOST_PERCENT, binding=True)),
    ]


def _trips(loop: Loop, wire: WireServer, key: SigningKey, times: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    found: dict[SigningKey | None, tuple[float, ...]] = {None: (), key: ()}
    for _ in range(ROUNDS):
        for one in found:
            wire.sealing.key = one
            found[one] += timed(lambda: _turn(loop, wire.fetch_goal_state()), times // ROUNDS, warm_up=5)
    return found[None], found[key]


def _alone(key: SigningKey, times: int) -> tuple[float, ...]:
    """What is added to a request, made anew."""
    sealing, request = Sealing(HostTime(SystemClock())), Catalogue("168.63.129.16").goal_state
    sealing.key = key
    return timed(lambda: sealing.added(request), times, warm_up=50)


def _latched(loop: Loop, wire: WireServer, control: Path) -> SigningKey:
    ask(control, "channel audit")
    _turn(loop, wire.fetch_channel_status())
    told = channel_key.parse(_turn(loop, wire.fetch_channel_key()))
    key = SigningKey(told.guid, Secret(told.key.reveal()))
    _turn(loop, wire.attest(key))
    return key


def _turn(loop: Loop, work: Any) -> Any:
    promise = loop.start("bench", work)
    while not promise.done:
        loop.turn()
    return promise.result()


@contextlib.contextmanager
def _host() -> Iterator[tuple[tuple[str, int], Path]]:
    with tempfile.TemporaryDirectory() as folder:
        control = Path(folder, "control")
        command = [sys.executable, "-m", "tests.fabric.wireserver", "--control", str(control)]
        with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as host:
            assert host.stdout is not None
            _, _, listening = host.stdout.readline().strip().partition(" ")
            address, _, port = listening.rpartition(":")
            try:
                yield (address, int(port)), control
            finally:
                ask(control, "stop")
