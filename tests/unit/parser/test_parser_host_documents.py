# SPDX-License-Identifier: Apache-2.0
"""The host's smaller documents, and files of events: what is read of each, what is refused, dropped or a problem."""

import json
from pathlib import Path
from typing import Any

import pytest

from ipc.errors import InputError
from ipc.messages import CertificateFile, Dropped, ExtensionEvents, HostingEnvironment, RemoteUser
from workers.parser import (
    artifacts_profile,
    certificate_file,
    event_file,
    hosting_environment,
    instance_metadata,
    plugin_versions,
    remote_access,
)
from workers.parser.bounds import MAX_EVENTS_BYTES

SAMPLES = Path(__file__).resolve().parents[2] / "data"
KINDS = {
    "certificate-file": certificate_file,
    "hosting-environment": hosting_environment,
    "remote-access": remote_access,
    "instance-metadata": instance_metadata,
    "plugin-versions": plugin_versions,
    "event-file": event_file,
}
SECRET = "Tr0ub4dor"


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("document", [b"", b"\0" * 9, b"<", b"<Other/>", b"{", b"null", b"7", b"[[[", b"\xff"])
def test_what_is_no_such_document_is_refused(kind: str, document: bytes) -> None:
    with pytest.raises(InputError):
        KINDS[kind].parse(document)


# --- certificates ---------------------------------------------------------------------------------------------------


def certificates(content: str) -> tuple[CertificateFile, bytes]:
    return certificate_file.parse(f"<CertificateFile><Incarnation>3</Incarnation>{content}</CertificateFile>".encode())


def test_the_envelope_comes_out_of_its_base64() -> None:
    message, der = certificate_file.parse(sample("certificate-file/host.xml"))
    assert (message, der) == (CertificateFile("3", ""), bytes.fromhex("300b06092a864886f70d010703"))
    assert certificates("<Format/><Data>MAA=</Data>") == (CertificateFile("3", ""), b"0\0")
    assert certificates("") == certificates("<Data> </Data>") == (CertificateFile("3", ""), b"")
    other = certificate_file.parse(sample("certificate-file/other.xml"))
    assert other == (CertificateFile("", "Other"), b"")


@pytest.mark.parametrize("data", ["MAA", "MA=A", "MAA=?", "MA-_", "\u00e4", "AAAA", "MA<!-- -->A="])
def test_data_that_is_no_der_in_strict_base64_is_refused(data: str) -> None:
    with pytest.raises(InputError, match="Data"):
        certificates(f"<Data>{data}</Data>")


# --- names, versions, metadata --------------------------------------------------------------------------------------


def test_the_names_of_the_hosting_environment_are_read() -> None:
    assert hosting_environment.parse(sample("hosting-environment/host.xml")) == HostingEnvironment(
        "vm_IN_0", "vm", "d00d"
    )
    nothing = b"<HostingEnvironmentConfig/>"
    assert hosting_environment.parse(nothing) == HostingEnvironment("", "", "")
    with pytest.raises(InputError, match="role_name"):
        hosting_environment.parse(
            nothing.replace(b"/>", b'><Role name="' + b"x" * 1025 + b'"/></HostingEnvironmentConfig>')
        )


def test_the_plugins_versions_are_read_with_a_mark_or_without() -> None:
    for document in (sample("plugin-versions/host.json"), b"\xef\xbb\xbf" + sample("plugin-versions/host.json")):
        assert plugin_versions.parse(document).versions == ("2012-09-01", "2015-09-01")
    for bad in (b'{"a": 1}', b"[1]", json.dumps(["x" * 1025]).encode(), json.dumps(["x"] * 65).encode()):
        with pytest.raises(InputError):
            plugin_versions.parse(bad)


def image(**compute: Any) -> int:
    return instance_metadata.parse(json.dumps({"compute": compute}).encode()).image_origin


def test_metadata_comes_whole_or_in_part() -> None:
    whole = instance_metadata.parse(sample("instance-metadata/instance.json"))
    assert (whole.location, whole.resource_group, whole.image_origin, whole.is_whole) == (
        "westeurope", "r\u00e9s", 2, True,
    )  # fmt: skip
    part = instance_metadata.parse(sample("instance-metadata/compute.json"))
    assert (part.location, part.vm_id, part.image_origin, part.is_whole) == ("westus", "v", 1, False)
    networks: tuple[Any, ...] = ({}, {"interface": []}, {"interface": [{"macAddress": ""}]}, [], "x")
    for network in networks:
        assert not instance_metadata.parse(json.dumps({"compute": {}, "network": network}).encode()).is_whole
    with pytest.raises(InputError, match="vmId"):
        instance_metadata.parse(b'{"compute": {"vmId": 7}}')


def test_an_images_origin_follows_from_who_made_it() -> None:
    assert image() == image(publisher="Canonical", offer="UbuntuServer") == 0
    assert image(publisher="", offer="", sku="") == image(publisher="Canonical", offer="", sku="") == 1
    assert (
        image(publisher="REDHAT", offer="rhel", sku="9") == image(publisher="Debian", offer="debian-12", sku="12") == 2
    )
    assert image(publisher="Contoso", offer="UbuntuServer", sku="1") == image(publisher="suse", offer="x", sku="1") == 3


# --- accounts, on hold ----------------------------------------------------------------------------------------------


def expiry(text: str) -> int | None:
    user = f"<User><Name>ann</Name><Password>MIIB</Password><Expiration>{text}</Expiration></User>"
    (found,) = remote_access.parse(f"<RemoteAccess><Users>{user}</Users></RemoteAccess>".encode()).users
    assert bool(found.problem) == (found.expires_s is None)
    return found.expires_s


def test_accounts_are_read_and_what_is_wrong_with_one_is_its_own_problem() -> None:
    found = remote_access.parse(sample("remote-access/host.xml"))
    assert found.incarnation == "5"
    assert found.users[0] == RemoteUser("ann", "MIIBAAAA", 1893456001)
    assert (found.users[1].name, found.users[1].expires_s) == ("bob", None)
    assert "Expiration is no time" in found.users[1].problem
    assert remote_access.parse(b"<RemoteAccess/>").users == ()
    users = "<User/>" * 3 + "<User><Name>" + "n" * 2000 + "</Name></User><User><Name>a</Name><Password>"
    users += "M" * 20_000 + "</Password></User>"
    odd = remote_access.parse(f"<RemoteAccess><Users>{users}</Users></RemoteAccess>".encode()).users
    assert [len(user.name) for user in odd] == [0, 0, 0, 1024, 1]
    assert all(user.problem and not user.password for user in odd)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Tue, 01 Jan 2019 00:00:00 UTC", 1546300800), ("Tue, 1 Jan 2019 00:00:00 GMT", 1546300800),
        ("2019-01-01T00:00:00Z", 1546300800), ("2019-01-01T00:00:00.1234567Z", 1546300800),
        ("Fri, 31 Dec 9999 23:59:59 UTC", 253402300799), ("2019-01-01", None), ("", None),
        ("Tue, 32 Jan 2019 00:00:00 UTC", None), ("Tue, 01 Foo 2019 00:00:00 UTC", None), ("1546300800", None),
        ("Tue, 01 Jan 2019 00:00:00 CET", None), ("2019-01-01T00:00:00", None), ("Tue, 01 Jan 2019 24:00:00 UTC", None),
        ("Tue, 01 Jan 0000 00:00:00 UTC", None),
    ],
)  # fmt: skip
def test_times_at_which_accounts_end(text: str, expected: int | None) -> None:
    assert expiry(text) == expected


@pytest.mark.parametrize("count", [65, 64])
def test_more_accounts_than_are_allowed_or_fit_are_refused(count: int) -> None:
    user = f"<User><Name>ann</Name><Password>{'M' * 16_000}</Password></User>"
    with pytest.raises(InputError, match="allowed" if count == 65 else "over the limit"):
        remote_access.parse(f"<RemoteAccess><Users>{user * count}</Users></RemoteAccess>".encode()[: 1 << 21])


@pytest.mark.parametrize(
    ("document", "on_hold", "problem"),
    [
        (b'{"onHold": true}', True, ""), (b'{"onHold": "True"}\0\0 \0', True, ""), (b'{"onHold": "FALSE"}', False, ""),
        (b"{}", False, ""), (b'{"onHold": 1}', False, "neither true nor"), (b'{"onHold": null}', False, "neither"),
        (b'{"onHold": "yes"}', False, "neither"), (b"", False, "empty"), (b"\0\0 ", False, "empty"),
        (b"{", False, "no JSON"), (b"[]", False, "no object"), (b"\xff", False, "document"),
        (b"[" * 100_000, False, "deeply"), (b" " * (1 << 21) + b"{}", False, "bytes long"),
    ],
)  # fmt: skip
def test_whatever_is_wrong_with_the_profile_the_vm_is_not_on_hold(document: bytes, on_hold: bool, problem: str) -> None:
    found = artifacts_profile.parse(document)
    assert found.on_hold == on_hold
    assert problem in found.problem
    assert bool(problem) == bool(found.problem)


# --- events -----------------------------------------------------------------------------------------------------------

EVENT: dict[str, Any] = json.loads(sample("event-file/one.json"))


def events(*changed: dict[str, Any]) -> ExtensionEvents:
    """What is read of a file with the event so changed each time; `...` leaves a field out."""
    each = [{key: value for key, value in {**EVENT, **change}.items() if value is not ...} for change in changed]
    return event_file.parse(json.dumps(each).encode())


def test_events_are_read_in_their_order_without_tokens() -> None:
    found = event_file.parse(sample("event-file/list.json"))
    assert [event.message for event in found.events] == [
        "fetched https://store.blob.core.windows.net/a?<redacted> now", "no",
    ]  # fmt: skip
    first = found.events[0]
    assert (first.pid, first.tid, first.operation_id, first.level, first.timestamp) == (
        "77", "1", "", "INFO", "2026-11-23T10:00:00.1Z",
    )  # fmt: skip
    assert (found.dropped, found.next) == ((), None)
    assert len(event_file.parse(sample("event-file/one.json")).events) == 1
    assert event_file.parse(b"[]") == ExtensionEvents((), ())


def test_of_a_list_of_anything_but_events_a_bounded_part_is_looked_at() -> None:
    found = event_file.parse(b"[" + b"0," * 500_000 + b"0]")
    assert {each.reason: each.count for each in found.dropped} == {
        "event: is no object": event_file.MAX_ENTRIES,
        f"file: has more than {event_file.MAX_ENTRIES} entries": 500_001 - event_file.MAX_ENTRIES,
    }


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"Message": ...}, "message: is missing"),
        ({"EventPid": ...}, "eventpid: is missing"),
        ({"OperationId": None}, "operationid: is missing"),
        ({"Message": "  "}, "Message: is empty"),
        ({"Message": 7}, "message: is no text"),
        ({"EventPid": 1.5}, "eventpid: is no text"),
        ({"EventPid": True}, "eventpid: is no text"),
        ({"Version": 1}, "version: is no text"),
        ({"TaskName": "x" * 3000, "OperationId": "y" * 3200}, "event: has more than 6144 characters"),
        ({"TaskName": "x" * 1025}, "event: has a text of more than 1024 characters beside its message"),
    ],
)
def test_an_event_that_is_none_is_dropped_and_counted(change: dict[str, Any], reason: str) -> None:
    found = events({}, change, {}, change)
    assert len(found.events) == 2
    assert found.dropped == (Dropped(reason, 2),)


def test_every_reason_at_once_can_be_told() -> None:
    fields = [{name: value} for name in EVENT for value in (..., 1.5)]
    found = events(*fields, {"Message": ""}, {"TaskName": "x" * 1025}, {"TaskName": "x" * 7000}, *[{}] * 361)
    assert len(found.dropped) == len(fields) + 4
    assert event_file.parse(b'[7, [], "x"]').dropped == (Dropped("event: is no object", 3),)


def test_a_long_message_is_cut_and_its_token_goes_first() -> None:
    text = "x" * 3060 + f" https://a/b?sig={SECRET}"
    assert events({"Message": text}).events[0].message == "x" * 3060 + " https://a/b"
    assert len(events({"Message": "y" * 100_000}).events[0].message) == 3072


def test_more_events_than_are_sent_at_a_time_are_dropped() -> None:
    found = events(*[{}] * 500)
    assert len(found.events) == 360
    assert found.dropped == (Dropped("file: has more than 360 events", 140),)


def test_what_a_frame_does_not_hold_is_asked_for_again() -> None:
    file = json.dumps([{**EVENT, "Message": f"{number} " + "\U0001f511" * 3000} for number in range(30)]).encode()
    read: list[str] = []
    first: int | None = 0
    while first is not None:
        found = event_file.parse(file, first)
        read += [event.message.split()[0] for event in found.events]
        assert not found.dropped
        first = found.next
    assert read == [f"{number}" for number in range(30)]


def test_a_file_that_is_too_long_or_no_json_is_refused() -> None:
    for document in (
        b" " * (MAX_EVENTS_BYTES + 1),
        b"{}}",
        b'"x"',
        json.dumps([EVENT]).encode("utf-16"),
        b"[" * 5000,
        b"[" + b"{}," * 100_000 + b"{}]",
    ):
        with pytest.raises(InputError):
            event_file.parse(document)
    assert event_file.parse(b" " * (MAX_EVENTS_BYTES - 2) + b"[]").events == ()
