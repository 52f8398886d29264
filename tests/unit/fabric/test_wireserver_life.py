# SPDX-License-Identifier: Apache-2.0
"""The emulated WireServer records everything, also under load, leaks nothing, ends at once, and can be steered."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fabric.documents import Health
from tests.fabric.wire_client import RawClient, ask_once, get_goal_state, get_versions, post_health, report_on
from tests.fabric.wire_control import ask
from tests.fabric.wireserver import Options, WireServer

ROOT = Path(__file__).resolve().parents[3]


class FrozenClock:
    """A clock that stands still."""

    def monotonic(self) -> float:
        return 77.0

    def wall(self) -> float:
        return 1234.5


def descriptors() -> set[str]:
    """What this process has open, but for the folder it is listed by."""
    return {entry.name for entry in Path("/proc/self/fd").iterdir() if entry.exists()}


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_record_holds_the_whole_request(tmp_path: Path) -> None:
    file = tmp_path / "record.jsonl"
    with WireServer(clock=FrozenClock(), options=Options(record=file)) as server:
        draft = get_goal_state(server.address)
        ask_once(server.address, draft)
        written = lines(file)  # it is there before the answer is
    assert written == [
        {
            "connection": 1,
            "route": "goalstate",
            "method": "GET",
            "target": "/machine/?comp=goalstate",
            "version": "HTTP/1.1",
            "headers": [list(header) for header in draft.headers],
            "body": "",
            "status": 200,
            "verdict": "accepted",
            "why": "",
            "fault": "",
            "rule": "",
            "passed": list(server.records[0].passed),
            "number": 1,
            "time": 1234.5,
            "monotonic": 77.0,
            "nth": 1,
            "peer": server.connections[0].peer,
        }
    ]


def test_nothing_is_lost_under_fifty_parallel_requests(tmp_path: Path) -> None:
    file = tmp_path / "record.jsonl"
    with WireServer(options=Options(record=file)) as server:
        ask_once(server.address, get_goal_state(server.address))
        together = threading.Barrier(50)
        statuses = []

        def report(number: int) -> None:
            health = report_on(server.goal_state, "NotReady", "ProvisioningFailed", f"client {number}")
            with RawClient(server.address) as client:
                together.wait(20)
                statuses.append(client.ask(post_health(server.address, health)).status)

        threads = [threading.Thread(target=report, args=(number,)) for number in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        expected = {f"client {number}" for number in range(50)}
        assert statuses == [200] * 50
        assert {report.description for report in server.health_reports} == expected
        assert [record.number for record in server.records] == list(range(1, 52))
    written = lines(file)
    assert [line["number"] for line in written] == list(range(1, 52))
    assert all(sum(f">{name}<" in str(line["body"]) for line in written) == 1 for name in expected)
    assert {line["connection"] for line in written} == set(range(1, 52))


def test_waiting_ends_with_the_condition_or_tells_what_came() -> None:
    with WireServer() as server:
        later = threading.Timer(0.1, ask_once, (server.address, get_versions(server.address)))
        later.start()
        server.wait_for(lambda seen: len(seen.requests("versions")) == 1, 5)
        later.join()
        with pytest.raises(TimeoutError, match=r"not within 0.05 s.*\n.*comp=versions: 200 accepted"):
            server.wait_for(lambda seen: seen.health is not None, 0.05)


def test_half_closed_connections_are_seen() -> None:
    """A client that does not close its end after the host has closed its own leaks a socket, and it shows."""
    with WireServer() as server, RawClient(server.address) as client:
        client.ask(get_versions(server.address).having("Connection", "close"))
        server.wait_for(lambda seen: seen.connections[0].half_closed)
        client.socket.close()
        server.wait_for(lambda seen: seen.connections[0].ended is not None)
        assert server.connections[0].how == "closed"
        assert not server.connections[0].half_closed


def test_a_client_that_has_half_closed_still_gets_its_answer() -> None:
    with WireServer() as server, RawClient(server.address) as client:
        client.send(get_versions(server.address))
        client.socket.shutdown(socket.SHUT_WR)
        assert client.reply().status == 200
        assert client.everything() == b""
        server.wait_for(lambda seen: seen.connections[0].ended is not None)


def occupy(server: WireServer, stack: ExitStack) -> None:
    """One client in each place where the host may be waiting."""
    for fault in ("silence", "delay=60", "drip=30", "flood", "length-long", "endless-headers"):
        server.fault(f"versions:{fault}*1")
        client = stack.enter_context(RawClient(server.address))
        client.send(get_versions(server.address))
        server.wait_for(lambda seen: not seen.faults.pending)
    idle = stack.enter_context(RawClient(server.address))
    kept = stack.enter_context(RawClient(server.address))
    kept.ask(get_versions(server.address))
    leaking = stack.enter_context(RawClient(server.address))
    leaking.ask(get_versions(server.address).having("Connection", "close"))
    within = stack.enter_context(RawClient(server.address))
    within.send(get_versions(server.address).encode()[:30])
    assert idle.buffer == b""
    server.wait_for(lambda seen: len(seen.connections) == 10)


def test_stop_ends_everything_within_a_second() -> None:
    threads, open_before = threading.active_count(), descriptors()
    with ExitStack() as stack:
        server = WireServer()
        server.start()
        occupy(server, stack)
        server.fault("any:refuse=60")
        assert threading.active_count() > threads
        began = time.monotonic()
        server.stop()
        assert time.monotonic() - began < 1.0
        assert threading.active_count() == threads
        assert {connection.how for connection in server.connections} >= {"stopped"}
        assert all(connection.ended is not None for connection in server.connections)
        with pytest.raises(ConnectionRefusedError):
            RawClient(server.address)
        server.stop()
    assert descriptors() == open_before


def test_many_starts_and_stops_leak_nothing() -> None:
    threads, open_before = threading.active_count(), descriptors()
    for _ in range(20):
        with WireServer() as server:
            ask_once(server.address, get_versions(server.address))
    assert threading.active_count() == threads
    assert descriptors() == open_before


def test_stop_ends_a_wait() -> None:
    server = WireServer()
    server.start()
    ending = threading.Timer(0.1, server.stop)
    ending.start()
    with pytest.raises(TimeoutError, match="before the host was stopped"):
        server.wait_for(lambda seen: seen.health is not None, 20)
    ending.join()


@pytest.fixture
def program(tmp_path: Path) -> Iterator[tuple["subprocess.Popen[str]", tuple[str, int]]]:
    command = [sys.executable, "-m", "tests.fabric.wireserver", "--listen", "127.0.0.1:0", "--incarnation", "5"]
    command += ["--record", str(tmp_path / "record.jsonl"), "--control", str(tmp_path / "control")]
    command += ["--fault", "versions:status=503*1"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            word, _, address = process.stdout.readline().strip().partition(" ")
            assert word == "listening"
            host, _, port = address.rpartition(":")
            yield process, (host, int(port))
        finally:
            process.kill()


def test_it_runs_as_a_program_and_is_steered(
    program: tuple["subprocess.Popen[str]", tuple[str, int]], tmp_path: Path
) -> None:
    process, address = program
    control = tmp_path / "control"
    assert [ask_once(address, get_versions(address)).status for _ in range(2)] == [503, 200]
    ask(control, "fault health:status=500*1")
    published = ask(control, "publish incomplete=1")
    state = ask(control, "state")
    assert published["incarnation"] == 6
    assert state["faults"] == ["health:status=500*1"]
    with pytest.raises(ValueError, match=r"not within 0\.05 s"):
        ask(control, "wait Ready 0.05")
    with pytest.raises(ValueError, match="no such command"):
        ask(control, "dance")
    with pytest.raises(ValueError, match="none of"):
        ask(control, "fault health:dance")
    assert b"<RoleInstanceList />" in ask_once(address, get_goal_state(address)).body
    assert b"<RoleInstance>" in ask_once(address, get_goal_state(address)).body
    ids = state["goal_state"]
    report = post_health(address, Health("6", ids["container_id"], ids["instance_id"], "Ready"))
    assert [ask_once(address, report).status for _ in range(2)] == [500, 200]
    assert ask(control, "wait Ready 5") == {}
    assert ask(control, "state")["refusals"] == []
    ask(control, "stop")
    assert process.wait(5) == 0
    assert [line["status"] for line in lines(tmp_path / "record.jsonl")] == [503, 200, 200, 200, 500, 200]
    assert not control.exists()


def test_a_signal_ends_the_program_even_while_a_command_waits(
    program: tuple["subprocess.Popen[str]", tuple[str, int]], tmp_path: Path
) -> None:
    process, _ = program
    with socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(str(tmp_path / "control"))
        waiting.sendall(b"wait Ready 60\n")
        ask(tmp_path / "control", "state")
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0


def test_whoever_steers_without_a_command_is_told_which_there_are() -> None:
    steering = [sys.executable, "-m", "tests.fabric.wire_control"]
    for words in ([], ["/nowhere/control"]):
        done = subprocess.run([*steering, *words], cwd=ROOT, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("usage: python -m tests.fabric.wire_control SOCKET COMMAND...\n")
    for words in (["help"], ["-h"], ["/nowhere/control", "help"]):
        told = subprocess.run([*steering, *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        assert all(f"\n    {name} " in told for name in ("state", "fault", "clear", "publish", "stock", "stop"))
        assert "invalid-container" in told
