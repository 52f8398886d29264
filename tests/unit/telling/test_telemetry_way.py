# SPDX-License-Identifier: Apache-2.0
"""The way of an event: redacted, gathered, on disk, in a body the host takes, gone once it has it; and never if off."""

import os
import resource
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

from ipc.errors import HostError, HostRefused, HostUnreachable, StateError
from supervisor.loop import Loop
from supervisor.redaction import Redactor
from supervisor.telemetry import spool as spooling
from supervisor.telemetry.envelope import MOST_BYTES, Common, bodies
from supervisor.telemetry.events import AgentEvent, Counter, Event, LogEvent, Source
from supervisor.telemetry.sender import GAP_S, PERIOD_S
from supervisor.telemetry.spool import EVENTS_A_FILE, MOST_FILES, Spool
from supervisor.telemetry.telemetry import GATHER_S, Telemetry, Wiring, switched_off, switched_on
from supervisor.telemetry.transitions import Transitions
from tests.unit.supervisor.turned import HandClock

SOURCE = Source("2026-01-02T03:04:05.000Z", "supervisor", "77", "77")
COMMON = Common(container_id="c-1", os_version="Linux:debian", memory_mib=2048, processors=2, processor="x86_64")
AGENT, LOGS = "69B669B9-4AF8-4C50-BDC4-6006FA76E975", "FFF0196F-EE4C-4EAF-9AA5-776F622DEB4F"
SAS = "https://store.example/a?sv=2018&sig=c2VjcmV0"


def happened(number: int, message: str = "") -> AgentEvent:
    return AgentEvent(SOURCE, f"Operation{number}", True, message)


def log(message: str) -> LogEvent:
    return LogEvent(SOURCE, "Publisher.Type-1.0", "Informational", message, "then", "op")


def read(body: bytes) -> list[tuple[str, str, dict[str, tuple[str, str]]]]:
    """The events of a body: provider, number, and parameters by name as (value, type)."""
    provider = ET.fromstring(body).find("Provider")
    assert provider is not None
    return [
        (
            provider.attrib["id"],
            event.attrib["id"],
            {
                param.attrib["Name"]: (param.attrib["Value"], param.attrib["T"])
                for param in ET.fromstring(f"<e>{event.text}</e>")
            },
        )
        for event in provider
    ]


class Host:
    """Takes telemetry, or raises the next of `errors`."""

    def __init__(self, *errors: HostError) -> None:
        self.errors = list(errors)
        self.bodies: list[bytes] = []
        self.calls = 0

    async def post(self, body: bytes, *, urgent: bool) -> None:
        self.calls += 1
        assert len(body) <= MOST_BYTES
        assert not urgent
        if self.errors:
            raise self.errors.pop(0)
        self.bodies.append(body)

    @property
    def operations(self) -> list[str]:
        return [params["Operation"][0] for body in self.bodies for _, _, params in read(body)]


class Vm:
    """Telemetry with its folder below `state`."""

    def __init__(self, state: Path, host: Host, make: Callable[[str, Wiring], Telemetry] = switched_on) -> None:
        self.clock = HandClock()
        self.loop = Loop(self.clock)
        self.redactor = Redactor()
        self.said: list[str] = []
        self.folder = state / "telemetry"
        wiring = Wiring(
            self.loop, host.post, lambda: COMMON, self.redactor.clean, lambda _l, _s, text: self.said.append(text)
        )
        self.telemetry = make(str(self.folder), wiring)
        self.loop.start("telemetry", self.telemetry.send())
        self.turn()

    @property
    def files(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir()) if self.folder.exists() else []

    def turn(self, seconds: float = 0.0) -> None:
        self.clock.now += seconds
        for _ in range(5):
            self.loop.call_later(0.0, lambda: None)
            self.loop.turn()


def test_each_table_has_its_parameters_with_their_types() -> None:
    counter = Counter(SOURCE, "CPU", "% Processor Time", "agent", 0.5)
    (body,) = bodies([happened(1, "a ]]> b \"c\" <d> 'e' \n\x01 ü"), counter], COMMON)
    (provider, number, agent), (_, counted, measured) = read(body.body)
    assert (provider, number, counted, body.events) == (AGENT, "1", "4", 2)
    assert agent["Message"] == ("a ]]> b \"c\" <d> 'e' \n\ufffd ü", "mt:wstr")
    assert agent["OperationSuccess"] == ("True", "mt:bool")
    assert agent["Duration"] == ("0", "mt:uint64")
    assert agent["GAVersion"] == ("WALinuxAgent-2.15.0.1", "mt:wstr")
    assert (agent["ContainerId"][0], agent["TenantName"][0]) == ("c-1", "TenantName_UNINITIALIZED")
    assert agent["KeywordName"][0] == '{"CpuArchitecture":"x86_64"}'
    assert measured["Value"] == ("0.5", "mt:float64")
    (logs,) = bodies([log("hello")], COMMON)
    ((provider, number, params),) = read(logs.body)
    assert (provider, number, params["Context1"], params["CapabilityUsed"][0]) == (
        LOGS, "7", ("hello", "mt:wstr"), "Informational",
    )  # fmt: skip
    common = set(agent) & set(measured) & set(params)
    assert len(common) == 19


def test_bodies_are_as_few_as_may_be_and_one_event_too_large_for_any_is_left_out() -> None:
    events: list[Event] = [log("ü" * 1000) for _ in range(60)]
    events.insert(30, log("&" * 20000))
    packed = list(bodies(events, COMMON))
    assert [each.events for each in packed if not each.body] == [1]
    assert sum(len(read(each.body)) for each in packed if each.body) == 60
    assert all(len(each.body) < MOST_BYTES for each in packed)
    assert len([each for each in packed if each.body]) <= 5


def test_events_are_gathered_for_a_moment_kept_on_disk_and_gone_once_taken(tmp_path: Path) -> None:
    host = Host()
    vm = Vm(tmp_path, host)
    vm.telemetry.note(happened(1))
    vm.telemetry.note(happened(2))
    vm.turn()
    assert (host.calls, vm.files, vm.telemetry.waiting) == (0, [], 2)
    vm.turn(GATHER_S + 0.1)
    assert (host.operations, vm.files, vm.telemetry.waiting) == (["Operation1", "Operation2"], [], 0)
    for number in range(EVENTS_A_FILE):
        vm.telemetry.note(happened(number))
    vm.turn()
    assert host.calls == 1  # one call a second is what the service takes
    vm.turn(GAP_S)
    assert (host.calls, len(host.operations)) == (2, 2 + EVENTS_A_FILE)


def test_what_the_host_has_not_taken_is_sent_once_it_is_back_each_once_and_in_order(tmp_path: Path) -> None:
    host = Host(HostUnreachable("down"), HostRefused(503, "telemetry"))
    vm = Vm(tmp_path, host)
    for number in range(3):
        vm.telemetry.note(happened(number))
        vm.turn(GATHER_S + 0.1)
    assert (len(vm.files), host.bodies, host.calls) == (3, [], 1)
    vm.turn(PERIOD_S)
    vm.turn(PERIOD_S + 0.1)
    assert host.operations == ["Operation0", "Operation1", "Operation2"]
    assert (vm.files, len(host.bodies)) == ([], 1)
    assert vm.said == [f"events are not taken: down; tried again every {PERIOD_S:g} s"]


def test_a_life_that_ends_before_the_host_is_back_leaves_all_to_the_next(tmp_path: Path) -> None:
    vm = Vm(tmp_path, Host(HostUnreachable("down")))
    vm.telemetry.keep([log("one")])
    vm.telemetry.note(happened(1))
    vm.telemetry.flush()
    vm.turn()
    assert len(vm.files) == 2
    host = Host()
    after = Vm(tmp_path, host)
    after.turn(GAP_S + 0.1)
    assert after.files == []
    assert [provider for body in host.bodies for provider, _, _ in read(body)] == [LOGS, AGENT]


def test_what_fails_in_the_middle_is_all_that_is_sent_again(tmp_path: Path) -> None:
    vm = Vm(tmp_path, Host(HostUnreachable("down")))
    for number in range(6):
        vm.telemetry.keep([happened(number, "&" * 3000)] * EVENTS_A_FILE)
    vm.turn()
    host = Host()
    after = Vm(tmp_path, host)
    for _ in range(4):
        after.turn(GAP_S + 0.1)
    taken = len(host.operations)
    assert 0 < taken < 6 * EVENTS_A_FILE
    host.errors = [HostUnreachable("down")]
    for _ in range(12):
        after.turn(GAP_S + 0.1)
    assert after.files
    after.turn(PERIOD_S)
    for _ in range(60):
        after.turn(GAP_S + 0.1)
    assert after.files == []
    again = len(host.operations) - 6 * EVENTS_A_FILE
    assert 0 <= again < EVENTS_A_FILE
    assert set(host.operations) == {f"Operation{number}" for number in range(6)}


def test_a_kill_between_the_hosts_answer_and_the_removal_sends_twice_and_loses_none(tmp_path: Path) -> None:
    first = Host()
    vm = Vm(tmp_path, first)
    vm.telemetry.keep([happened(1)])
    name = vm.files[0]
    content = (vm.folder / name).read_bytes()
    vm.turn()
    assert first.operations == ["Operation1"]
    (vm.folder / name).write_bytes(content)  # as a kill right after the answer leaves it
    (vm.folder / f".{name}.new").write_bytes(content[:7])  # and one in the middle of writing
    second = Host()
    after = Vm(tmp_path, second)
    after.turn()
    assert (second.operations, after.files) == (["Operation1"], [])


def test_a_torn_file_is_said_and_skipped_and_what_comes_after_it_is_sent(tmp_path: Path) -> None:
    before = Vm(tmp_path, Host(HostUnreachable("down")))
    for number in range(3):
        before.telemetry.keep([happened(number)])
    before.turn()
    torn = before.folder / before.files[1]
    torn.write_bytes(torn.read_bytes()[:-4])
    host = Host()
    vm = Vm(tmp_path, host)
    vm.turn()
    assert host.operations == ["Operation0", "Operation2"]
    assert (vm.telemetry.lost, vm.files) == (1, [])
    assert str(torn) in vm.said[0]


def test_a_full_spool_loses_its_oldest_and_counts_them(tmp_path: Path) -> None:
    Spool(str(tmp_path / "spool"), lambda *_: None)
    (tmp_path / "spool" / f"{5:012d}.2.events").write_bytes(b"\x90")
    for number in range(MOST_FILES):
        (tmp_path / "spool" / f"{number + 6:012d}.2.events").write_bytes(b"\x90")
    spool = Spool(str(tmp_path / "spool"), lambda *_: None)
    spool.add([happened(number) for number in range(EVENTS_A_FILE + 1)])
    assert len(spool.files) == MOST_FILES
    assert (spool.files[0], spool.lost) == (8, 6)
    assert len(list((tmp_path / "spool").iterdir())) == MOST_FILES


def test_on_a_disk_that_takes_no_more_nothing_half_written_stays_and_the_next_start_is_well(tmp_path: Path) -> None:
    vm = Vm(tmp_path, Host(HostUnreachable("down")))
    vm.telemetry.keep([happened(1)])
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
        status = 1
        try:
            vm.telemetry.keep([happened(2, "x" * 3000)])
        except StateError:
            vm.telemetry.note(happened(3))
            vm.telemetry.flush()
            status = 0 if len(vm.files) == 1 and vm.telemetry.trouble and vm.telemetry.waiting == 2 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(vm.files) == 1


def test_a_body_that_the_host_will_never_have_is_dropped_once_and_counted(tmp_path: Path) -> None:
    host = Host(HostRefused(400, "telemetry"))
    vm = Vm(tmp_path, host)
    vm.telemetry.keep([happened(1)])
    vm.turn()
    vm.telemetry.keep([happened(2)])
    vm.turn(GAP_S + 0.1)
    assert (host.operations, vm.telemetry.lost, vm.files) == (["Operation2"], 1, [])
    assert vm.said == ["1 events are dropped, since the host won't have them: telemetry: HTTP status 400"]


def test_no_secret_reaches_disk_or_host(tmp_path: Path) -> None:
    down = Host(HostUnreachable("down"))
    vm = Vm(tmp_path, down)
    vm.redactor.register("hunter2-hunter2")
    vm.telemetry.keep([log(f"at {SAS} with hunter2-hunter2")])
    vm.telemetry.did(f"at {SAS}", True, "password=hunter3")
    vm.telemetry.flush()
    written = b"".join((vm.folder / name).read_bytes() for name in vm.files)
    assert len(vm.files) == 2
    assert not any(secret in written for secret in (b"c2VjcmV0", b"hunter2", b"hunter3"))


def test_switched_off_nothing_is_kept_or_sent_and_what_was_kept_is_gone(tmp_path: Path) -> None:
    before = Vm(tmp_path, Host(HostUnreachable("down")))
    before.telemetry.keep([happened(1)])
    assert before.files
    host = Host()
    vm = Vm(tmp_path, host, switched_off)
    vm.telemetry.note(happened(2))
    vm.telemetry.keep([happened(3)])
    vm.telemetry.flush()
    vm.turn(3600)
    assert (host.calls, vm.files, vm.telemetry.waiting, vm.telemetry.is_on) == (0, [], 0, False)


def test_a_change_is_an_event_and_sameness_is_none_through_restarts(tmp_path: Path) -> None:
    path = str(tmp_path / "transitions")
    seen = [Transitions(path).is_new("ReportStatus", succeeded=went) for went in (True, True, False, False, True)]
    assert seen == [True, False, True, False, True]
    Path(path).write_text("{torn")
    assert Transitions(path).is_new("ReportStatus", succeeded=True)


def test_the_bytes_of_a_spool_are_bounded_too() -> None:
    largest = spooling.EVENTS_A_FILE * 8 * 1024
    assert largest <= spooling.MOST_BYTES
    assert largest < spooling.MOST_FILE_BYTES
