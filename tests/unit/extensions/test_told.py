# SPDX-License-Identifier: Apache-2.0
"""What the host is told of a handler: the agent's knowledge and the handler's own words, as one."""

import pytest
from msgspec.structs import replace

from ipc.messages import ExtensionStatus, Heartbeat
from supervisor.extensions.told import NOTHING, Found, told
from supervisor.goal_state.adopted import HandlerStatus

READY = HandlerStatus("Publisher.Type", "1.2", "Ready", 0, "Plugin enabled", 3)
FAILED = HandlerStatus("Publisher.Type", "1.2", "NotReady", 1009, "enable ended with exit status 5", 3)
REFUSED = HandlerStatus("Publisher.Type", "1.2", "NotReady", 1009, "the policy does not allow it", 3)
BARE = HandlerStatus("Publisher.Type", "1.2", "Ready", 0, "Plugin enabled")
SAID = ExtensionStatus("own", "Enable", "", "success", 0, "done")
ALIVE = Found(beat=Heartbeat("ready", 7, "alive"))


def test_what_an_extension_says_is_told_beside_what_the_agent_knows() -> None:
    assert told(READY, Found(SAID)) == replace(READY, settings=SAID)
    assert told(FAILED, Found(SAID)) == replace(FAILED, settings=SAID)


def test_without_a_file_an_extension_is_on_its_way_unless_its_command_has_failed() -> None:
    awaited = told(READY, NOTHING).settings
    assert awaited is not None
    assert (awaited.status, awaited.code) == ("transitioning", 0)
    assert "Publisher.Type-1.2/status/3.status" in awaited.message
    several = told(replace(READY, extension="one"), NOTHING).settings
    assert several is not None
    assert (several.name, "/status/one.3.status" in several.message) == ("one", True)
    assert told(FAILED, NOTHING) == FAILED


def test_a_handler_without_settings_has_no_status_of_them() -> None:
    assert told(BARE, Found(SAID)) == BARE


def test_what_lies_there_from_before_is_no_answer_to_settings_that_policy_refuses() -> None:
    assert told(REFUSED, Found(SAID), is_allowed=False) == REFUSED
    both = told(REFUSED, Found(SAID, Heartbeat("Ready", 0, "alive")), is_allowed=False)
    assert both == replace(REFUSED, message="the policy does not allow it; heartbeat: alive")


@pytest.mark.parametrize(
    ("written", "status"),
    [("ready", "Ready"), ("Ready", "Ready"), ("notReady", "NotReady"), ("not ready", "NotReady")],
)
def test_a_heartbeat_replaces_the_status_of_a_handler_that_is_enabled(written: str, status: str) -> None:
    said = told(BARE, Found(beat=Heartbeat(written, 7, "alive")))
    assert (said.status, said.code, said.message) == (status, 7, "alive")


def test_a_heartbeat_of_another_word_or_too_old_or_missing_is_a_handler_that_is_not_well() -> None:
    odd = told(BARE, Found(beat=Heartbeat("splendid", 0, "alive")))
    assert (odd.status, odd.code) == ("NotReady", -1)
    assert odd.message.startswith("the heartbeat's status is 'splendid': expected one of Ready")
    old = told(BARE, replace(ALIVE, is_old=True))
    assert (old.status, old.code) == ("Unresponsive", -1)
    assert "600 s; it says ready: alive" in old.message
    none = told(BARE, Found(no_beat="heartbeat.log is not there"))
    assert (none.status, none.code, none.message) == ("NotReady", -1, "heartbeat.log is not there")


def test_a_heartbeat_does_not_hide_that_a_command_failed_nor_disturb_one_under_way() -> None:
    said = told(FAILED, ALIVE)
    assert (said.status, said.code) == ("NotReady", 1009)
    assert said.message == "enable ended with exit status 5; heartbeat: alive"
    installing = replace(BARE, status="Installing", message="install is running")
    assert told(installing, Found(no_beat="heartbeat.log is not there")) == installing
