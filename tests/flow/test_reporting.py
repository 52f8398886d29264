# SPDX-License-Identifier: Apache-2.0
"""What the host is told, by a real boot with all of an Azure host around it: status, observations, telemetry."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from supervisor.compatibility import AGENT_VERSION, OWN_NAME
from supervisor.telemetry.extension_events import MOST_EVENTS
from supervisor.telemetry.telemetry import GATHER_S
from tests.fabric.lab import PlacedFile
from tests.fabric.scene import kill_process, supervisor_pid
from tests.fabric.surroundings import Surroundings
from tests.fabric.telemetry_rules import GENERIC_LOGS, Event, read_observations, read_telemetry
from tests.fabric.vm import QUICK, Vm, booted
from tests.fabric.waiting import until

pytestmark = pytest.mark.root

# A poll a second, and a look for events of extensions every two.
OFTEN = QUICK + b"Extensions.GoalStatePeriod=1\nDebug.EtpCollectionPeriod=2\n"
HANDLER = "Publisher.Type"
EVENTS = f"/var/log/azure/{HANDLER}/events"
OLD_EVENTS = "/var/lib/waagent/events"
SPOOL = "/var/lib/agent-supervisor/telemetry"
ASKED_BY_ALL = ("goalstate", "vmsettings", "status", "pluginhealth", "metadata", "healthservice")
SECRET = "Y2Fubm90LXRlbGw"
MANY = [f"one of many, number {number}" for number in range(MOST_EVENTS + 40)]


@contextmanager
def told(config: bytes = OFTEN, image: Mapping[str, PlacedFile] | None = None) -> Iterator[Vm]:
    """A provisioned VM, whose host has had a status, and said nothing against any request."""
    around = Surroundings.make()
    with booted(config=config, image={**around.files(), **(image or {})}, host=False) as vm:
        around.start_host(vm.scene)
        vm.boot(vm.wanted.medium())
        until("a status", lambda: uploads(vm), 20.0)
        yield vm
        # What a kill has cut off is broken; nothing was wrong.
        assert [each for each in vm.refused() if "broken: " not in each] == []


def records(vm: Vm, route: str) -> list[dict[str, object]]:
    """What came there and was acted on, or would have been but for a fault."""
    return [each for each in vm.scene.records() if each["route"] == route]


def uploads(vm: Vm) -> list[dict[str, object]]:
    return [each for each in records(vm, "status") if each["status"] == 200]


def events(vm: Vm) -> list[Event]:
    """Every event that the host took, as often as it took it."""
    bodies = [str(each["body"]).encode() for each in records(vm, "telemetry") if each["verdict"] == "accepted"]
    return [event for body in bodies for event in read_telemetry(body)]


def messages(vm: Vm) -> Counter[str]:
    return Counter(event.told["Context1"] for event in events(vm) if event.provider == GENERIC_LOGS)


def last_status(vm: Vm) -> dict[str, object]:
    status = vm.scene.steer("last")["status"]
    assert isinstance(status, dict)
    return status


def leave(vm: Vm, number: int, *texts: str) -> None:
    """Have the extension leave a file with events of these messages."""
    form = {
        "Version": "1.0.0",
        "Timestamp": "2026-01-02T03:04:05Z",
        "TaskName": "Install",
        "EventLevel": "Informational",
        "EventPid": "77",
        "EventTid": "77",
        "OperationId": "op",
    }
    vm.lab.run(["mkdir", "-p", EVENTS])
    vm.lab.write(f"{EVENTS}/{number}.tmp", json.dumps([form | {"Message": text} for text in texts]).encode())
    vm.lab.output("mv", f"{EVENTS}/{number}.tmp", f"{EVENTS}/{number}.json")


def left(vm: Vm, folder: str) -> list[str]:
    return vm.lab.run(["ls", "-A", folder]).stdout.split()


def kept(vm: Vm) -> list[str]:
    """The files of events that the host has not taken yet."""
    return [name for name in left(vm, SPOOL) if name.endswith(".events")]


def test_status_observations_and_telemetry_reach_the_host_by_every_way_and_through_a_kill() -> None:
    with told() as vm:
        vm.settled()
        the_status_is_whole(vm)
        a_new_goal_state_is_told_at_once(vm)
        storage_takes_it_where_the_plugin_fails(vm)
        a_host_that_was_away_gets_each_event_once(vm)
        a_kill_before_the_answer_sends_twice_and_loses_none(vm)
        what_an_old_extension_leaves_is_sent_as_its_own(vm)
        of_what_an_extension_leaves_so_much_is_taken_and_no_more(vm)
        told_by_itself = {event.told["Operation"]: event.told for event in events(vm) if event.number == "1"}
        assert {"Start", "HeartBeat", "Provision", "GoalState", "ReportStatus"} <= told_by_itself.keys()
        assert told_by_itself["Start"]["Message"] == OWN_NAME
        assert told_by_itself["GoalState"]["SubscriptionId"] == "2b2f7d44-93e0-43ea-a3a1-6b7c0f9b7f10"
        assert not told_by_itself["GoalState"]["TenantName"].endswith("_UNINITIALIZED")
        observed = [read_observations(str(each["body"]).encode()) for each in records(vm, "healthservice")]
        assert all(one["IsHealthy"] for each in observed for one in each)
        assert {str(one["ObservationName"]) for one in observed[0]} >= {"InstanceMetadataHeartbeat"}
        assert vm.told(SECRET) == []


def the_status_is_whole(vm: Vm) -> None:
    aggregate = last_status(vm)["aggregateStatus"]
    assert isinstance(aggregate, dict)
    assert aggregate["guestAgentStatus"]["version"] == AGENT_VERSION
    copies = vm.lab.run(["sh", "-c", "cat /var/lib/waagent/history/*/waagent_status.json"]).stdout
    assert json.loads(copies)["aggregateStatus"] == aggregate
    shown = vm.ps().overview.contact
    assert (shown.channel, shown.uploads_failed, shown.status_trouble) == ("host plugin", 0, "")
    assert shown.status_accepted > 0
    assert shown.telemetry is not None
    assert shown.telemetry.on
    assert "events sent" in shown.telemetry.sentence


def a_new_goal_state_is_told_at_once(vm: Vm) -> None:
    vm.scene.steer("fault status:status=410*1")  # ids out of date: fetched anew, and the same way again
    plan = {"plugins": [{"name": HANDLER, "version": "1.0.0", "settings": [{"sequence": 3}]}]}
    vm.scene.steer(f"publish same-container {json.dumps(plan)}")

    def handlers() -> list[dict[str, object]]:
        aggregate = last_status(vm)["aggregateStatus"]
        found: list[dict[str, object]] = aggregate["handlerAggregateStatus"]  # type: ignore[index]
        return found

    (handler,) = until("its status", handlers)
    assert (handler["handlerName"], handler["status"]) == (HANDLER, "NotReady")
    certificates = max(float(str(each["monotonic"])) for each in records(vm, "certificates"))
    accepted = next(float(str(u["monotonic"])) for u in uploads(vm) if float(str(u["monotonic"])) > certificates)
    # A tenth of a second where nobody else works; here the last parser's time is in it, and other tests run.
    assert accepted - certificates < 2.0
    assert [each["status"] for each in records(vm, "status")[-2:]] == [410, 200]
    assert vm.ps().overview.contact.channel == "host plugin"


def storage_takes_it_where_the_plugin_fails(vm: Vm) -> None:
    vm.scene.steer("fault status:status=500")
    plan = {"plugins": [{"name": HANDLER, "version": "1.0.1", "settings": [{"sequence": 4}]}]}
    vm.scene.steer(f"publish same-container {json.dumps(plan)}")
    until("the other channel", lambda: vm.ps().overview.contact.channel == "storage", 15.0)
    assert records(vm, "putblob")
    vm.scene.steer("clear")
    vm.scene.steer("publish same-container")
    until("the first channel again", lambda: vm.ps().overview.contact.channel == "host plugin", 15.0)


def a_host_that_was_away_gets_each_event_once(vm: Vm) -> None:
    vm.scene.steer("fault telemetry:status=503")
    leave(vm, 3, f"while the host was away, https://store.example/a?sv=1&sig={SECRET}")
    until("the file's end", lambda: left(vm, EVENTS) == [])
    until("its place on disk", lambda: kept(vm))
    before = supervisor_pid(vm.agent)
    assert kill_process(before)
    until("the next supervisor", lambda: supervisor_pid(vm.agent) != before)
    vm.scene.steer("clear")
    until("the event", lambda: any("host was away" in text for text in messages(vm)), 30.0)
    (text,) = [text for text in messages(vm) if "host was away" in text]
    assert messages(vm)[text] == 1
    assert SECRET not in text


def a_kill_before_the_answer_sends_twice_and_loses_none(vm: Vm) -> None:
    until("an empty spool", lambda: kept(vm) == [], 20.0)
    vm.scene.steer("fault telemetry:delay=2")
    leave(vm, 4, "sent and not removed")
    until("its arrival", lambda: messages(vm)["sent and not removed"], 20.0)
    assert kill_process(supervisor_pid(vm.agent))
    vm.scene.steer("clear")
    until("its second arrival", lambda: messages(vm)["sent and not removed"] == 2, 20.0)
    until("its end", lambda: kept(vm) == [], 20.0)


def what_an_old_extension_leaves_is_sent_as_its_own(vm: Vm) -> None:
    said = {"Name": HANDLER, "Version": "0.9", "Operation": "OldEnable", "OperationSuccess": True, "Duration": 21}
    said["Message"] = f"fetched https://store.example/a?sv=1&sig={SECRET}"
    form = {"eventId": 1, "parameters": [{"name": name, "value": value} for name, value in said.items()]}
    vm.lab.run(["mkdir", "-p", OLD_EVENTS])
    vm.lab.write(f"{OLD_EVENTS}/17.tmp", json.dumps(form).encode())
    vm.lab.output("mv", f"{OLD_EVENTS}/17.tmp", f"{OLD_EVENTS}/17.tld")
    told = until("the event", lambda: [each.told for each in events(vm) if each.told.get("Operation") == "OldEnable"])
    (event,) = told
    assert (event["Name"], event["Version"], event["Duration"]) == (HANDLER, "0.9", "21")
    assert event["Message"] == "fetched https://store.example/a?<redacted>"
    assert not [name for name in left(vm, OLD_EVENTS) if name.endswith(".tld")]


def of_what_an_extension_leaves_so_much_is_taken_and_no_more(vm: Vm) -> None:
    before = sum(messages(vm).values())
    vm.scene.steer("fault telemetry:status=503")
    leave(vm, 5, *(f"one of many, number {number}" for number in range(MOST_EVENTS + 40)))
    vm.lab.output("ln", "-s", "/etc/shadow", f"{EVENTS}/6.json")
    until("an empty folder", lambda: left(vm, EVENTS) == [], 15.0)
    # A file's name tells how many events are in it: those, and at most a few of the agent's own.
    assert MOST_EVENTS <= sum(int(name.split(".")[1]) for name in kept(vm)) <= MOST_EVENTS + 10
    assert sum(messages(vm).values()) == before


def test_switched_off_the_host_gets_no_event_whatever_happens() -> None:
    left_before = {f"{SPOOL}/000000000001.1.events": PlacedFile(b"\x90", 0o600)}
    with told(OFTEN + b"Telemetry.Enabled=n\n", left_before) as vm:
        vm.settled()
        leave(vm, 1, "never to be told")
        until("the file's end", lambda: left(vm, EVENTS) == [], 20.0)
        vm.scene.steer("publish same-container")
        count = len(uploads(vm))
        until("the next status", lambda: len(uploads(vm)) > count)
        until("longer than events are gathered for", lambda: vm.ps().overview.uptime_s > GATHER_S + 2.0)
        assert records(vm, "telemetry") == []
        assert kept(vm) == []
        telemetry = vm.ps().overview.contact.telemetry
        assert telemetry is not None
        assert (telemetry.on, telemetry.sentence) == (False, "off")
