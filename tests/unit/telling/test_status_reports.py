# SPDX-License-Identifier: Apache-2.0
"""When a status is uploaded, by which channel, and what follows when neither takes it."""

import json

import msgspec
import pytest

from ipc.errors import HostError, HostRefused, HostUnreachable, ResourceGone, StateError
from ipc.messages import StatusBlob
from supervisor.loop import Loop, Promise
from supervisor.reporting.aggregate import Facts
from supervisor.reporting.status_reports import PERIOD_S, PLUGIN, STORAGE, StatusReports, Surroundings
from tests.unit.supervisor.turned import HandClock
from tests.unit.telling.facts import BLOB, GOAL_STATE, HANDLER, adopted, facts

NO_BLOB = msgspec.structs.replace(GOAL_STATE, status_blob=StatusBlob("", "BlockBlob"))
RETRY_S = 6.0


class Channel:
    """Takes what it is given once the test lets it, with the next of `outcomes`: None, or what is raised."""

    def __init__(self, *outcomes: HostError | None) -> None:
        self.outcomes = list(outcomes)
        self.taken: list[bytes] = []
        self.gate: Promise[None] | None = None

    async def put_status(self, blob: StatusBlob, content: bytes) -> None:
        assert blob == BLOB
        self.taken.append(content)
        if self.gate is not None:
            await self.gate
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if outcome is not None:
            raise outcome

    put = put_status


class Vm:
    """The reports of one VM, with everything around them in the test's hand."""

    def __init__(self, plugin: Channel, storage: Channel, first: Facts) -> None:
        self.clock = HandClock()
        self.loop = Loop(self.clock)
        self.plugin, self.storage = plugin, storage
        self.facts = first
        self.anew = 0
        self.copies: list[bytes] = []
        self.said: list[str] = []
        self.noted: list[bool] = []
        self.full_disk = False
        around = Surroundings(
            lambda: self.facts,
            self._fetch_anew,
            self._keep,
            str,
            lambda _level, _source, text: self.said.append(text),
            lambda succeeded, _text: self.noted.append(succeeded),
        )
        self.reports = StatusReports(self.loop, plugin, storage, around, RETRY_S)
        self.loop.start("status", self.reports.run())
        self.turn()

    def turn(self, seconds: float = 0.0) -> None:
        """Let `seconds` pass, and everything happen that is due then."""
        self.clock.now += seconds
        for _ in range(5):
            self.loop.call_later(0.0, lambda: None)
            self.loop.turn()

    def change(self, **changes: object) -> None:
        self.facts = msgspec.structs.replace(self.facts, **changes)
        self.reports.changed()

    async def _fetch_anew(self) -> None:
        self.anew += 1

    def _keep(self, content: bytes) -> None:
        if self.full_disk:
            raise StateError("no space left")
        self.copies.append(content)


def vm(*plugin: HostError | None, storage: tuple[HostError | None, ...] = (), first: Facts | None = None) -> Vm:
    return Vm(Channel(*plugin), Channel(*storage), first or facts(adopted(HANDLER)))


def test_it_goes_at_once_on_a_change_and_every_minute_and_never_for_nothing() -> None:
    made = vm()
    assert len(made.plugin.taken) == 1
    made.reports.changed()  # and nothing has
    made.turn()
    assert len(made.plugin.taken) == 1
    made.change(host_name="renamed")
    made.turn()
    assert json.loads(made.plugin.taken[-1])["guestOSInfo"]["computerName"] == "renamed"
    assert (len(made.plugin.taken), made.reports.channel) == (2, PLUGIN)
    made.turn(PERIOD_S - 1)
    assert len(made.plugin.taken) == 2
    made.turn(1.1)
    assert len(made.plugin.taken) == 3
    assert made.copies == made.plugin.taken
    assert made.reports.last_accepted_at == made.clock.now
    assert made.storage.taken == []


def test_what_changes_nothing_does_not_put_off_what_is_due() -> None:
    made = vm()
    for _ in range(4):
        made.turn(PERIOD_S / 4 + 0.1)
        made.reports.changed()
    made.turn()
    assert len(made.plugin.taken) == 2


def test_changes_during_an_upload_are_one_upload_after_it() -> None:
    made = vm()
    made.plugin.gate = gate = Promise[None]()
    for name in ("one", "two", "three"):
        made.change(host_name=name)
        made.turn()
    assert len(made.plugin.taken) == 2
    made.plugin.gate = None
    gate.fulfil(None)
    made.turn()
    names = [json.loads(each)["guestOSInfo"]["computerName"] for each in made.plugin.taken]
    assert names == ["vm-demo", "one", "three"]


@pytest.mark.parametrize("error", [HostUnreachable("reset"), HostRefused(503, "PUT /status")])
def test_where_the_plugin_fails_storage_takes_it(error: HostError) -> None:
    made = vm(error)
    assert made.storage.taken == made.plugin.taken
    assert (made.reports.channel, made.reports.errors_in_a_row, made.said) == (STORAGE, 0, [])
    made.turn(PERIOD_S + 1)  # and it does not stick to it
    assert (made.reports.channel, len(made.storage.taken)) == (PLUGIN, 1)


def test_ids_that_stay_unknown_cost_this_upload_and_no_storage_is_told() -> None:
    made = vm(ResourceGone("410"))
    assert (made.storage.taken, made.reports.errors_in_a_row, made.noted) == ([], 1, [False])
    made.turn(RETRY_S + 0.1)
    assert (made.reports.errors_in_a_row, made.noted) == (0, [False, True])


def test_a_failure_is_said_once_and_tried_again_with_the_next_poll() -> None:
    both = HostUnreachable("silent")
    made = vm(both, both, both, storage=(both, both, both))
    made.turn(RETRY_S + 0.1)
    made.turn(RETRY_S + 0.1)
    assert made.reports.errors_in_a_row == 3
    assert made.said == ["not accepted: by the host plugin: silent; by storage: silent; tried again within 6 s"]
    made.turn(RETRY_S + 0.1)
    assert made.said[1:] == ["accepted again, after 3 failed uploads"]
    assert (made.reports.errors_in_a_row, made.reports.errors, made.reports.trouble) == (0, 3, "")


def test_storage_that_fails_again_and_again_is_tried_less_and_less_often() -> None:
    down = HostUnreachable("storage is away")
    one = vm(*[HostUnreachable("no plugin here")] * 100, storage=(down,) * 100)
    for _ in range(50):
        one.turn(RETRY_S)
    # Each poll asks the plugin; storage comes after 6, 12, 24, 48, and from then on 60 seconds.
    assert len(one.plugin.taken) == 51
    assert len(one.storage.taken) == 8
    assert len(one.said) == 1
    one.storage.outcomes.clear()
    for _ in range(11):
        one.turn(RETRY_S)
    assert (one.reports.trouble, one.reports.channel) == ("", STORAGE)


def test_a_goal_state_without_a_place_is_fetched_anew_once_and_then_said() -> None:
    made = vm(first=facts(adopted(goal_state=NO_BLOB)))
    made.turn(RETRY_S + 0.1)
    made.turn(RETRY_S + 0.1)
    assert (made.anew, made.plugin.taken, made.reports.errors_in_a_row) == (1, [], 3)
    assert made.said == [f"not accepted: {made.reports.trouble}; tried again within 6 s"]
    made.change(adopted=adopted(HANDLER))
    made.turn()
    assert (len(made.plugin.taken), made.reports.trouble) == (1, "")


def test_before_the_first_goal_state_there_is_nowhere_to_go_and_no_error() -> None:
    made = vm(first=facts(None))
    made.turn(PERIOD_S + 1)
    assert (made.plugin.taken, made.said, made.reports.errors) == ([], [], 0)


def test_a_full_disk_costs_the_copy_and_not_the_upload() -> None:
    made = vm()
    made.full_disk = True
    made.change(host_name="renamed")
    made.turn()
    assert (len(made.plugin.taken), len(made.copies)) == (2, 1)
    assert made.said == ["the copy of the status on this machine: no space left"]
