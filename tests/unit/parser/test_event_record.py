# SPDX-License-Identifier: Apache-2.0
"""Events in the form that old extensions leave: six parameters count, in JSON and in XML, and no token is told."""

import json
from pathlib import Path
from typing import Any

import pytest

from ipc.errors import InputError
from ipc.messages import EventRecord
from workers.parser import event_record
from workers.parser.bounds import MAX_RECORD_BYTES

SAMPLE = Path(__file__).resolve().parents[2] / "data/event-record/json.tld"
XML = (
    '<?xml version="1.0"?><Data><Provider id="69B669B9-4AF8-4C50-BDC4-6006FA76E975"/><Event id="1"/>'
    '<Param Name="Name" Value="Publisher.Older" T="mt:wstr" /><Param Name="Version" Value="0.9" T="mt:wstr" />'
    '<Param Name="Operation" Value="Install" T="mt:wstr" /><Param Name="OperationSuccess" Value="False" T="mt:bool" />'
    '<Param Name="Message" Value="https://a/b?sig=5ec4e7c0ffee&amp;se=1 &lt;failed>" T="mt:wstr" />'
    '<Param Name="Duration" Value="12" T="mt:uint64" /></Data>'
)


def record(**values: Any) -> bytes:
    """An event with these parameters, in the place of a plain one's."""
    parameters = {"Name": "P.T", "Version": "1", "Operation": "Op", "Message": "m", **values}
    listed = [{"name": name, "value": value} for name, value in parameters.items()]
    return json.dumps({"eventId": 1, "providerId": "", "parameters": listed}).encode()


def test_json() -> None:
    message = "fetched https://a.blob.core.windows.net/c/b?<redacted> in time"
    assert event_record.parse(SAMPLE.read_bytes()) == EventRecord(
        "Publisher.Old", "1.4.0", "Enable", succeeded=True, message=message, duration_ms=1500
    )


@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"\n "])
def test_xml(before: bytes) -> None:
    document = before + (XML if before != b"\n " else XML.partition("?>")[2]).encode()
    found = event_record.parse(document)
    assert (found.name, found.version, found.operation, found.succeeded) == ("Publisher.Older", "0.9", "Install", False)
    assert (found.message, found.duration_ms) == ("https://a/b?<redacted> <failed>", 12)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"OperationSuccess": "TRUE", "Duration": "7"}, (True, 7)),
        ({"OperationSuccess": None, "Duration": -1}, (False, 0)),
        ({"OperationSuccess": 1, "Duration": 9 * 10**15}, (False, 9 * 10**15)),
        ({"OperationSuccess": False, "Duration": 10**18}, (False, 0)),
    ],
)
def test_what_is_neither_true_nor_a_number(values: dict[str, Any], expected: tuple[bool, int]) -> None:
    found = event_record.parse(record(**values))
    assert (found.succeeded, found.duration_ms) == expected


def test_texts_are_cut() -> None:
    found = event_record.parse(record(Message="ü" * 5000, Operation="o" * 5000))
    assert (len(found.message), len(found.operation)) == (3072, 1024)


@pytest.mark.parametrize(
    ("document", "where"),
    [
        (b"", "document"),
        (b"[]", "document"),
        (b" " * (MAX_RECORD_BYTES + 1), "document"),
        (b'{"eventId": 4, "parameters": []}', "event"),
        (b'{"eventId": 1, "parameters": []}', "Name"),
        (b'{"eventId": 1, "parameters": [{"value": 1}]}', "parameters[0]"),
        (record(Message=["m"]), "Message"),
        (b"<Data/>", "Event"),
        (b"<!DOCTYPE Data><Data/>", "line 1"),
        (XML.replace('id="1"', 'id="4"').encode(), "event"),
    ],
)
def test_what_is_no_such_event_is_refused(document: bytes, where: str) -> None:
    with pytest.raises(InputError) as refused:
        event_record.parse(document)
    assert refused.value.where.startswith(where), refused.value
