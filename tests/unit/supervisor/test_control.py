# SPDX-License-Identifier: Apache-2.0
"""The control socket, asked by real processes with real credentials."""

import json
import os
import resource
import select
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.errors import MalformedMessage
from supervisor import control
from supervisor.cli.client import ask
from supervisor.control import REFUSALS_AN_HOUR, fit, group_id, listen
from supervisor.verbs import (
    MAX_ANSWER_BYTES,
    PS,
    RECORD,
    RESTART,
    RUNNING_VERSION,
    STOP_WORKER,
    VERBS,
    Verb,
    pack,
    unpack,
)
from tests.unit.supervisor.serving import NOBODY, Served, open_folder, serve

GROUP = 64990

# Sends a record (hex) to a socket and prints the answer; {hold} holds connections open instead.
CLIENT = """
import socket, sys
connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
connection.settimeout(10)
connection.connect(sys.argv[1])
connection.send(bytes.fromhex(sys.argv[2]))
print(connection.recv(1 << 20).decode())
"""
HOLDER = """
import socket, sys
held = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(int(sys.argv[2]))]
for connection in held: connection.connect(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""
HASTY = """
import socket, sys
connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
connection.connect(sys.argv[1])
connection.send(bytes.fromhex(sys.argv[2]))
"""


def ask_as(path: Path, record: bytes, uid: int = 0, groups: list[int] | None = None) -> dict[str, object]:
    """The answer to a process of user `uid` with the supplementary `groups`."""
    command = ["/usr/bin/python3", "-I", "-c", CLIENT, str(path), record.hex()]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, user=uid, group=uid, extra_groups=groups or [], cwd="/"
    )
    if done.returncode:
        raise PermissionError(done.stderr.splitlines()[-1])
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        select.select([], [], [], 0.005)


def turn_until(served: Served, condition: Callable[[], bool]) -> None:
    """For a server without a thread: let it work here."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        served.loop.turn()


def connected(served: Served) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.settimeout(10)
    connection.connect(str(served.path))
    return connection


def test_ps_and_version_answer_once_a_connection(tmp_path: Path) -> None:
    with serve(tmp_path / "control.sock") as served:
        data = json.loads(bytes(ask(str(served.path), PS).data))
        assert [row["name"] for row in data["processes"]] == ["supervisor", "parser.1", "parser.2"]
        assert data["overview"]["missing"] == ["landlock"]
        assert json.loads(bytes(ask(str(served.path), RUNNING_VERSION).data)) == {"version": "0.1.0"}
        with connected(served) as connection:
            connection.send(pack(PS))
            assert json.loads(connection.recv(1 << 20))["status"] == "ok"
            assert connection.recv(1 << 20) == b""
        assert served.server.served == 3
        assert served.audits == []


def test_the_socket_has_its_mode_before_anybody_can_connect(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    before = os.umask(0)  # the mode must not hang on it
    try:
        with listen(path, None):
            assert path.stat().st_mode & 0o7777 == 0o600
        # What a killed predecessor left is replaced, its half-made one, too.
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as half_made:
            half_made.bind(str(path) + ".new")
        with listen(path, None):
            assert [entry.name for entry in tmp_path.iterdir()] == ["control.sock"]
    finally:
        os.umask(before)


@pytest.mark.root
def test_the_group_gets_its_socket(tmp_path: Path) -> None:
    with listen(tmp_path / "control.sock", GROUP):
        facts = (tmp_path / "control.sock").stat()
        assert (facts.st_mode & 0o7777, facts.st_uid, facts.st_gid) == (0o660, 0, GROUP)


@pytest.mark.root
def test_others_read_only_as_members_of_the_group_and_control_nothing() -> None:
    acted: list[str] = []
    with open_folder() as folder, serve(folder / "s", GROUP, controls={"restart": acted.append}) as served:  # type: ignore[dict-item]
        assert ask_as(served.path, pack(PS), NOBODY, [GROUP])["status"] == "ok"
        assert ask_as(served.path, pack(RESTART, "parser.0"), NOBODY, [GROUP])["status"] == "refused"
        with pytest.raises(PermissionError):
            ask_as(served.path, pack(PS), NOBODY)
        # Even where the file lets everybody in, the server does not.
        served.path.chmod(0o666)
        assert ask_as(served.path, pack(PS), NOBODY)["status"] == "refused"
        assert ask_as(served.path, pack(RUNNING_VERSION), NOBODY, [GROUP + 1])["status"] == "refused"
        assert served.server.refused == 3
        assert len(served.audits) == 3
        assert served.audits[0].startswith(f"uid {NOBODY} pid ")
        assert served.audits[0].endswith("asked for restart parser.0: refused")
        assert acted == []
        assert served.cgroups == []


@pytest.mark.root
def test_root_controls_from_outside_the_workers_cgroups_only(tmp_path: Path) -> None:
    acted: list[str] = []

    def restart(name: str) -> str:
        if name == "nobody.0":
            raise ValueError("no worker is called nobody.0")
        acted.append(name)
        return f"{name} is restarted"

    with serve(tmp_path / "s", controls={"restart": restart}) as served:
        assert ask(str(served.path), RESTART, "parser.0").text == "parser.0 is restarted"
        assert served.cgroups == [Path("/proc/self/cgroup").read_text()]
        assert served.audits[-1].endswith("asked for restart parser.0: parser.0 is restarted")
        with pytest.raises(ValueError, match="no worker is called"):
            ask(str(served.path), RESTART, "nobody.0")
        with pytest.raises(ValueError, match="not available"):
            ask(str(served.path), STOP_WORKER, "parser.0")
        served.outside = False
        with pytest.raises(PermissionError):
            ask(str(served.path), RESTART, "parser.1")
        assert acted == ["parser.0"]
        told = [(entry.request, entry.decision, entry.uid, entry.pid) for entry in served.entries]
        decided = ["permitted", "failed", "failed", "refused"]
        assert [decision for _, decision, _, _ in told] == decided
        assert told[0] == ("restart", "permitted", os.geteuid(), os.getpid())


@pytest.mark.root
def test_refusals_without_end_are_no_records_without_end(tmp_path: Path) -> None:
    """Or whoever may only ask could push older records out of the audit log."""
    with serve(tmp_path / "s") as served:
        served.outside = False
        for _ in range(REFUSALS_AN_HOUR + 10):
            with pytest.raises(PermissionError):
                ask(str(served.path), RESTART, "parser.1")
        assert (len(served.entries), len(served.audits)) == (REFUSALS_AN_HOUR, REFUSALS_AN_HOUR + 10)


@pytest.mark.root
@pytest.mark.parametrize("reaped", [True, False])
def test_a_peer_that_is_gone_controls_nothing(tmp_path: Path, reaped: bool) -> None:
    """Its pid may be another process's by now: what can't be judged for certain is refused."""
    acted: list[str] = []

    def restart(name: str) -> str:
        acted.append(name)
        return name

    served = Served(tmp_path / "s", None, 1, {"restart": restart})
    command = ["/usr/bin/python3", "-I", "-c", HASTY, str(served.path), pack(RESTART, "parser.0").hex()]
    with subprocess.Popen(command, cwd="/") as hasty:
        # It has sent and ended before the server looks; as a zombie it still has a /proc/PID.
        os.waitid(os.P_PID, hasty.pid, os.WEXITED | (0 if reaped else os.WNOWAIT))
        turn_until(served, lambda: served.server.refused == 1)
    assert acted == []
    assert served.cgroups == []
    served.server.close()


@pytest.mark.parametrize(
    "record",
    [
        b"x",
        pack(PS)[:-1],
        pack(PS) + b"\0",
        b"x" * 5000,
        b"HTTP" + pack(PS)[4:],
        RECORD.pack(b"AgSv", 2, 1, b""),
        RECORD.pack(b"AgSv", 1, 99, b""),
        RECORD.pack(b"AgSv", 1, PS.number, b"name"),
        RECORD.pack(b"AgSv", 1, RESTART.number, b""),
        RECORD.pack(b"AgSv", 1, RESTART.number, b"a\0b"),
        RECORD.pack(b"AgSv", 1, RESTART.number, b"../x\n"),
        RECORD.pack(b"AgSv", 1, RESTART.number, b"-x"),
        RECORD.pack(b"AgSv", 1, RESTART.number, "é".encode()),
    ],
)
def test_what_is_no_record_gets_no_answer(tmp_path: Path, record: bytes) -> None:
    with serve(tmp_path / "s", controls={"restart": lambda name: name}) as served:
        with connected(served) as connection:
            connection.send(record)
            assert connection.recv(1 << 20) == b""
        wait_for(lambda: served.server.malformed == 1)
        assert ask(str(served.path), PS).status == "ok"


@given(st.one_of(st.binary(max_size=200), st.binary(min_size=66, max_size=66).map(lambda b: b"AgSv\x01\x00" + b)))
def test_any_bytes_are_a_record_as_pack_makes_it_or_refused(record: bytes) -> None:
    try:
        verb, argument = unpack(record)
    except MalformedMessage:
        return
    assert pack(verb, argument) == record


@given(st.sampled_from(VERBS), st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,63}", fullmatch=True))
def test_what_is_packed_is_unpacked(verb: Verb, argument: str) -> None:
    asked = argument if verb.takes_name else ""
    assert unpack(pack(verb, asked)) == (verb, asked)
    with pytest.raises(ValueError, match="can't be asked"):
        pack(verb, "" if verb.takes_name else argument)


def test_clients_that_never_read_cost_nothing(tmp_path: Path) -> None:
    with serve(tmp_path / "s", rows=500) as served:
        sleepers: list[socket.socket] = []
        while len(sleepers) < 60:
            sleepers.append(connected(served))
            sleepers[-1].send(pack(PS))
            wait_for(lambda: served.server.served == len(sleepers))
        started = time.monotonic()
        assert ask(str(served.path), RUNNING_VERSION).status == "ok"
        assert time.monotonic() - started < 1
        wait_for(lambda: served.server._connections == {})
        for sleeper in sleepers:
            sleeper.close()


def test_a_flood_of_requests_on_one_connection_gets_one_answer(tmp_path: Path) -> None:
    with serve(tmp_path / "s") as served, connected(served) as connection:
        connection.setblocking(False)
        try:
            while True:
                connection.send(pack(PS))
        except OSError:
            pass
        wait_for(lambda: served.server.served == 1 and served.server._connections == {})
        assert ask(str(served.path), PS).status == "ok"
        wait_for(lambda: served.server.served == 2)


def test_idle_connections_are_limited_and_end_after_a_while(tmp_path: Path) -> None:
    with serve(tmp_path / "s") as served:
        idle = [connected(served) for _ in range(control.CONNECTIONS)]
        wait_for(lambda: len(served.server._connections) == control.CONNECTIONS)
        with connected(served) as late:
            assert late.recv(100) == b""
        assert served.server.dropped == 1
        for connection in idle:
            assert connection.recv(100) == b""
            connection.close()
        assert served.server.dropped == 1 + control.CONNECTIONS
        assert ask(str(served.path), PS).status == "ok"


@pytest.mark.root
def test_members_of_the_group_can_not_lock_root_out() -> None:
    with open_folder() as folder, serve(folder / "s", GROUP) as served:
        command = ["/usr/bin/python3", "-I", "-c", HOLDER, str(served.path), "14"]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=NOBODY, group=GROUP, extra_groups=[], cwd="/"
        ) as holder:
            assert holder.stdout is not None
            holder.stdout.readline()
            wait_for(lambda: served.server.dropped == 14 - control.CONNECTIONS_OF_OTHERS)
            assert ask(str(served.path), PS).status == "ok"
            holder.communicate()


def test_descriptors_sent_along_are_not_taken(tmp_path: Path) -> None:
    with serve(tmp_path / "s") as served, connected(served) as connection:
        wait_for(lambda: len(served.server._connections) == 1)
        reader, writer = os.pipe()
        socket.send_fds(connection, [pack(PS)], [writer] * 50)
        os.close(writer)
        assert json.loads(connection.recv(1 << 20))["status"] == "ok"
        assert os.read(reader, 1) == b""  # nobody holds the other end
        os.close(reader)


def test_without_descriptors_left_the_server_waits_instead_of_spinning(tmp_path: Path) -> None:
    served = Served(tmp_path / "s", None, 1, {})
    silent = os.pipe()
    served.loop.watch(silent[0], served.loop.stop)  # as in the supervisor, the listener is not all there is
    client = connected(served)
    client.send(pack(PS))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (served.server._listener.fileno(), hard))
    try:
        for _ in range(2):
            served.loop.turn()  # the second one ends with the pause
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert served.loop.turns == 2
    turn_until(served, lambda: served.server.served == 1)
    assert served.loop.turns < 10
    client.close()
    served.loop.unwatch(silent[0])
    for descriptor in silent:
        os.close(descriptor)
    served.server.close()


@pytest.mark.parametrize("rows", [1, 400, 2000, 50_000])
def test_an_answer_is_never_too_long_and_says_when_it_was_cut(tmp_path: Path, rows: int) -> None:
    with serve(tmp_path / "s", rows=rows) as served:
        answer = ask(str(served.path), PS)
        processes = json.loads(bytes(answer.data))["processes"]
        assert answer.cut == (len(processes) < rows)
        assert answer.cut == (rows > 1000)
        assert len(bytes(answer.data)) <= MAX_ANSWER_BYTES
        if answer.cut:
            assert len(bytes(answer.data)) > MAX_ANSWER_BYTES / 4


def test_what_can_not_be_shortened_is_left_out() -> None:
    assert json.loads(fit({"status": "ok", "data": "x" * 500}, 100)) == {"status": "ok", "cut": True, "data": None}
    assert json.loads(fit({"data": {"a": ["x" * 500], "b": 1}}, 100)) == {"cut": True, "data": {"a": [], "b": 1}}


def test_a_group_is_found_in_the_group_file(tmp_path: Path) -> None:
    file = tmp_path / "group"
    file.write_text("root:x:0:\n\nbroken\nagent-supervisor:x:977:a,b\nodd:x:²:\n")
    assert group_id("agent-supervisor", file) == 977
    assert group_id("root", file) == 0
    assert group_id("agent", file) is None
    assert group_id("odd", file) is None
    assert group_id("root", tmp_path / "absent") is None
