# SPDX-License-Identifier: Apache-2.0
"""The witness's job: to tell which process has a socket, whosever it is, and that nobody has it any more."""

from collections.abc import Iterator

from ipc.messages import Connector, NameConnector
from tests.least.place import Place
from tests.least.scenario import Phase, Reply, Scenario

PORT, UID = 45453, 65534
LISTENS = f"import socket; kept = socket.create_server(('127.0.0.1', {PORT})); kept.accept()"
PID = "/run/listener.pid"


def scenarios() -> Iterator[Scenario]:
    phases: tuple[Phase, ...] = ("provisioning", "steady")
    for phase in phases:
        about = frozenset({f"Connector in {phase}"})
        yield Scenario(
            "witness",
            f"somebody else's socket, in phase {phase}",
            NameConnector(PORT, UID),
            (Connector,),
            _is_the_listener,
            _somebody_listens,
            about=about,
            phase=phase,
        )
    yield Scenario("witness", "nobody's socket", NameConnector(9, 0), (Connector,), _is_nobody)


def _somebody_listens(place: Place) -> None:
    place.keep(PID)
    begin = (
        f'setsid setpriv --reuid {UID} --clear-groups /usr/bin/python3 -c "{LISTENS}" >/dev/null 2>&1 & echo $! >{PID}'
    )
    come = f"until grep -q ':{PORT:04X} ' /proc/net/tcp; do sleep 0.02; done"
    place.run("sh", "-c", f"{begin}; {come}")
    place.finally_run("sh", "-c", f"kill $(cat {PID})")


def _is_the_listener(place: Place, reply: Reply) -> None:
    found = reply.last(Connector)
    assert found.pid == int(place.at(PID).read_text())
    assert found.program.rpartition("/")[2].startswith("python")
    assert found.name
    assert found.cgroup


def _is_nobody(_: Place, reply: Reply) -> None:
    assert reply.last(Connector) == Connector(0)
