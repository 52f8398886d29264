# SPDX-License-Identifier: Apache-2.0
"""The status document: every field, its size, its letters, and no secret in it."""

import json
import subprocess
import sys
from typing import Any

import msgspec

from ipc.messages import AgentFamily, ExtensionStatus
from ipc.messages.extension_documents import Substatus
from supervisor.compatibility import AGENT_VERSION, OWN_NAME
from supervisor.goal_state.adopted import UNSUPPORTED_FEATURES, HandlerStatus, Outcome
from supervisor.redaction import Redactor
from supervisor.reporting import features
from supervisor.reporting.aggregate import CUT, MEASURES, MOST_BYTES, Facts, Update, document
from supervisor.reporting.machine import look, memory_mib, parse_os_release
from tests.fabric.status_document import read_status
from tests.unit.telling.facts import GOAL_STATE, HANDLER, adopted, facts

WALL = 1767323045.9
NOW = "2026-01-02T03:04:05Z"


def told(of: Facts) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(document(of, WALL, Redactor().clean))
    return read


def message(text: str) -> dict[str, str]:
    return {"lang": "en-US", "message": text}


def settings_status(name: str, status: str, code: int, text: str) -> dict[str, Any]:
    return {
        "version": 1.0,
        "timestampUTC": NOW,
        "status": {
            "name": name,
            "configurationAppliedTime": None,
            "operation": "Enabling",
            "status": status,
            "code": code,
            "formattedMessage": message(text),
        },
    }


HANDLERS_TOLD = [
    {
        "handlerVersion": "1.2.3",
        "handlerName": "Publisher.Type",
        "status": "NotReady",
        "code": -2,
        "useExactVersion": True,
        "formattedMessage": message("not carried out"),
        "runtimeSettingsStatus": {
            "sequenceNumber": 5,
            "settingsStatus": settings_status("Publisher.Type", "error", -2, "not carried out"),
        },
    },
    {
        "handlerVersion": "2.0",
        "handlerName": "Publisher.Multi",
        "status": "Ready",
        "code": 0,
        "useExactVersion": True,
        "runtimeSettingsStatus": {
            "sequenceNumber": 1,
            "extensionName": "one",
            "settingsStatus": settings_status("one", "success", 0, ""),
        },
    },
    {
        "handlerVersion": "1.0",
        "handlerName": "Publisher.Bare",
        "status": "Installing",
        "code": 0,
        "useExactVersion": True,
        "formattedMessage": message("on its way"),
    },
]


def test_every_field_is_there_as_the_host_reads_it() -> None:
    extension = HandlerStatus("Publisher.Multi", "2.0", "Ready", 0, "", 1, "one")
    bare = HandlerStatus("Publisher.Bare", "1.0", "Installing", 0, "on its way")
    assert told(facts(adopted(HANDLER, extension, bare))) == {
        "version": "1.1",
        "timestampUTC": NOW,
        "aggregateStatus": {
            "guestAgentStatus": {
                "version": AGENT_VERSION,
                "status": "Ready",
                "formattedMessage": message(f"Guest Agent is running ({OWN_NAME})"),
            },
            "handlerAggregateStatus": HANDLERS_TOLD,
            "vmArtifactsAggregateStatus": {
                "goalStateAggregateStatus": {
                    "formattedMessage": message("done"),
                    "timestampUTC": "1970-01-02T00:00:00Z",
                    "inSvdSeqNo": "3",
                    "status": "Success",
                    "code": 0,
                }
            },
        },
        "guestOSInfo": {
            "computerName": "vm-demo",
            "osName": "debian",
            "osVersion": "12",
            "version": AGENT_VERSION,
        },
        "supportedFeatures": [{"Key": "MultipleExtensionsPerHandler", "Value": "1.0"}],
    }


def test_without_a_processed_goal_state_nothing_is_said_of_one() -> None:
    for goal_state in (None, adopted(outcome=None)):
        assert "vmArtifactsAggregateStatus" not in told(facts(goal_state))["aggregateStatus"]


def test_a_goal_state_that_asks_too_much_has_its_code_and_fast_track_its_number() -> None:
    refused = adopted(etag="7", id="etag_7", outcome=Outcome(UNSUPPORTED_FEATURES, "unsupported: Flying", 0.0))
    status = told(facts(refused))["aggregateStatus"]["vmArtifactsAggregateStatus"]["goalStateAggregateStatus"]
    assert (status["status"], status["code"], status["inSvdSeqNo"]) == ("Failed", 2001, 7)


def test_a_version_managed_by_the_host_is_answered_with_the_one_that_runs() -> None:
    family = AgentFamily("Prod", "2.99.0.0", "", True, True, ())
    update = features.update(family)
    assert update is not None
    status = told(facts(adopted(), update=update))["aggregateStatus"]["guestAgentStatus"]["updateStatus"]
    assert (status["expectedVersion"], status["status"], status["code"]) == (AGENT_VERSION, "Error", 1)
    assert "2.99.0.0 is wanted" in status["formattedMessage"]["message"]
    same = msgspec.structs.replace(family, version=AGENT_VERSION)
    assert features.update(same) == Update(True, "")
    assert features.update(msgspec.structs.replace(family, is_vm_enabled_for_rsm_upgrades=None)) is None


def test_features_are_those_that_this_agent_has_now() -> None:
    assert features.supported(fast_track=False) == ("MultipleExtensionsPerHandler",)
    assert features.supported(fast_track=True) == ("MultipleExtensionsPerHandler", "FastTrack")


def test_letters_beyond_ascii_are_escaped_and_read_back_the_same() -> None:
    text = 'Grüße \u2028 \U0001f600 "\\ \x01'
    written = document(facts(adopted(msgspec.structs.replace(HANDLER, message=text))), WALL, str)
    assert written.isascii()
    handlers = json.loads(written)["aggregateStatus"]["handlerAggregateStatus"]
    assert handlers[0]["formattedMessage"]["message"] == text


def test_no_letter_needs_a_module_that_the_supervisor_could_not_load_any_more() -> None:
    code = """
import sys
from supervisor.reporting.aggregate import document
from tests.unit.telling.test_status_document import adopted, facts, said
loaded = set(sys.modules)
document(facts(adopted(said(message="Gr\\xfc\\xdfe \\U0001f600"))), 1.0, str)
print(*sorted(set(sys.modules) - loaded))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "\n"


def test_a_token_in_any_message_is_taken_out() -> None:
    url = "https://store.example/package?sv=2018-03-28&sig=V2l0aCBzZWNyZXQ%3D&se=2027"
    hostile = msgspec.structs.replace(HANDLER, message=f"download of {url} failed")
    outcome = Outcome(-1, f"failed at {url}", 0.0)
    written = document(facts(adopted(hostile, outcome=outcome)), WALL, Redactor().clean)
    assert b"V2l0" not in written
    assert written.count(b"[redacted]") == 3


def test_the_largest_status_stays_below_what_the_host_takes_with_every_handler_in_it() -> None:
    noisy = [msgspec.structs.replace(HANDLER, name=f"Publisher.Type{n}", message="ü" * 9000) for n in range(256)]
    written = document(facts(adopted(*noisy)), WALL, str)
    assert len(written) <= MOST_BYTES
    handlers = json.loads(written)["aggregateStatus"]["handlerAggregateStatus"]
    assert [each["handlerName"] for each in handlers] == [each.name for each in noisy]
    assert all(each["formattedMessage"]["message"].endswith(CUT) for each in handlers)


PART = Substatus("StdOut", "success", 0, "hello")
SAID = ExtensionStatus("Microsoft.Own", "Daemon", "2026-01-02T03:04:00Z", "warning", 7, "half done", "de-DE", (PART,))


def said(**changes: Any) -> HandlerStatus:
    return msgspec.structs.replace(HANDLER, settings=msgspec.structs.replace(SAID, **changes))


def settings_told(written: bytes, at: int = 0) -> dict[str, Any]:
    handlers = json.loads(written)["aggregateStatus"]["handlerAggregateStatus"]
    found: dict[str, Any] = handlers[at]["runtimeSettingsStatus"]["settingsStatus"]["status"]
    return found


def test_what_an_extension_says_of_itself_is_told_as_it_says_it() -> None:
    written = document(facts(adopted(said())), WALL, str)
    read_status(written)
    assert settings_told(written) == {
        "name": "Microsoft.Own",
        "configurationAppliedTime": "2026-01-02T03:04:00Z",
        "operation": "Daemon",
        "status": "warning",
        "code": 7,
        "formattedMessage": {"lang": "de-DE", "message": "half done"},
        "substatus": [{"name": "StdOut", "status": "success", "code": 0, "formattedMessage": message("hello")}],
    }


def test_what_an_extension_leaves_out_is_filled_in_where_the_host_needs_it() -> None:
    written = document(
        facts(adopted(said(name="", operation="", configuration_applied_time="", language="", substatuses=()))),
        WALL,
        str,
    )
    read_status(written)
    told = settings_told(written)
    assert (told["name"], told["operation"], told["configurationAppliedTime"]) == ("Publisher.Type", None, None)
    assert told["formattedMessage"]["lang"] == "en-US"
    assert "substatus" not in told


def test_no_token_is_in_any_text_of_an_extensions_even_where_it_is_cut() -> None:
    url = "https://store.example/script.sh?sv=2018-03-28&sig=V2l0aCBzZWNyZXQ%3D&se=2027"
    edge = "x" * (MEASURES[0].text - 60) + url
    parts = (msgspec.structs.replace(PART, name=f"from {url}", message=edge),)
    written = document(
        facts(adopted(said(message=f"ran {url}", operation=url, substatuses=parts))), WALL, Redactor().clean
    )
    assert b"V2l0" not in written
    assert written.count(b"[redacted]") == 4
    assert settings_told(written)["substatus"][0]["formattedMessage"]["message"].startswith("xxx")


def test_however_much_twenty_extensions_say_the_status_stays_within_what_the_host_takes() -> None:
    for letter in ("x", "ü", "\U0001f600", '"'):
        parts = tuple(msgspec.structs.replace(PART, message=letter * 10_000) for _ in range(13))
        noisy = [said(name=letter * 1024, operation=letter * 1024, message=letter * 10_000, substatuses=parts)] * 20
        written = document(facts(adopted(*noisy)), WALL, Redactor().clean)
        assert len(written) <= MOST_BYTES
        read_status(written)
        told = [settings_told(written, at) for at in range(20)]
        assert {each["status"] for each in told} == {"warning"}
        assert all(each["formattedMessage"]["message"].endswith(CUT) for each in told)
    # And the most that a goal state can ask for.
    noisy = [said(name="\U0001f600" * 1024, operation="\U0001f600" * 1024, message="\U0001f600" * 10_000)] * 256
    written = document(facts(adopted(*noisy)), WALL, Redactor().clean)
    assert len(written) <= MOST_BYTES
    assert len(json.loads(written)["aggregateStatus"]["handlerAggregateStatus"]) == 256


def test_one_extension_says_all_that_it_may() -> None:
    parts = tuple(msgspec.structs.replace(PART, name=f"part {at}", message="x" * 10_240) for at in range(12))
    written = document(facts(adopted(said(message="y" * 10_240, substatuses=parts))), WALL, str)
    told = settings_told(written)
    assert told["formattedMessage"]["message"] == "y" * 10_240
    assert [each["formattedMessage"]["message"] for each in told["substatus"]] == ["x" * 10_240] * 12


def test_facts_are_equal_whatever_the_time_so_that_nothing_is_uploaded_for_it() -> None:
    assert facts(adopted(HANDLER)) == facts(adopted(HANDLER))
    assert facts(adopted(said())) == facts(adopted(said()))
    assert facts(adopted(said())) != facts(adopted(said(message="done")))
    assert facts(adopted(HANDLER)) != facts(adopted(goal_state=msgspec.structs.replace(GOAL_STATE, on_hold=True)))


def test_this_machine_is_told_by_what_its_files_say() -> None:
    release = parse_os_release("# a comment\nID=ubuntu\nVERSION_ID=\"22.04\"\nBROKEN\nVERSION_CODENAME='jammy'\n")
    assert release == {"ID": "ubuntu", "VERSION_ID": "22.04", "VERSION_CODENAME": "jammy"}
    assert memory_mib("MemTotal:  2097152 kB\nMemFree: 1 kB\n", "MemTotal") == 2048
    assert memory_mib("MemTotal: lots\n", "MemTotal") == 0
    here = look()
    assert here.os_version.startswith(f"Linux:{here.name}-")
    assert here.memory_mib > 0
    assert here.kernel
