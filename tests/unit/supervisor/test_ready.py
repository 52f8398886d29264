# SPDX-License-Identifier: Apache-2.0
"""Ready that the host refuses for good is reported again, beside everything else, until the host accepts it."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc.messages import GoalState, RoleInstance
from supervisor.births import Births
from supervisor.contact import Contact
from supervisor.dispatch import Table
from supervisor.fleet import Fleet
from supervisor.journal import Journal
from supervisor.layout import Layout
from supervisor.loop import Loop
from supervisor.ready import AGAIN_S, Ready
from supervisor.standing import Standing
from supervisor.wire.host import WireServer
from tests.unit.supervisor.turned import HandClock, run, turn_until
from tests.unit.wire.scripted_server import Peer, ScriptedServer, answer

GOAL_STATE = GoalState("1", "container", "", RoleInstance("instance", "", "", "", "", ""))
REFUSALS = 3


def refuses_at_first(peer: Peer) -> None:
    for status in ["400 Bad Request"] * REFUSALS + ["200 OK"]:
        if peer.request():
            peer.send(answer(b"", status))
    peer.end()


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal")
    yield journal
    journal.close()


def test_a_refused_ready_is_reported_again_until_it_is_accepted(journal: Journal) -> None:
    clock = HandClock()
    loop = Loop(clock)
    said: list[str] = []
    standing = Standing(clock)

    def say(level: str, source: str, text: str) -> None:
        said.append(f"{level} {source}: {text}")

    ours, spawner = socket.socketpair()
    births = Births(loop, Table([]), ours, Layout(), say)
    fleet = Fleet(loop, {}, births, lambda: 0.5, say)
    with ScriptedServer(refuses_at_first) as server, ours, spawner:
        host = WireServer(loop, "127.0.0.1", port=server.port)
        contact = Contact(loop, fleet, lambda: host, say)
        contact.goal_state = GOAL_STATE
        run(loop, Ready(loop, contact, journal, say, standing).report())
        for attempt in range(1, REFUSALS + 1):
            turn_until(loop, lambda due=attempt: len(said) == due)  # type: ignore[misc]
            assert (len(server.requests), journal.state.ready) == (attempt, False)
            assert (standing.outcome, standing.ready) == ("done", False)
            assert standing.troubles["Ready"].endswith("Ready is reported again in 60 s")
            # One more turn, so that it sleeps when the time goes on.
            loop.call_later(0, lambda: None)
            loop.turn()
            clock.now += AGAIN_S
        turn_until(loop, lambda: journal.state.ready)
        assert len(server.requests) == REFUSALS + 1
        assert (said[-1], standing.text) == ("info host: accepted Ready", "done")
        assert (standing.troubles, standing.ready) == ({}, True)
        host.close()
