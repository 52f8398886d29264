# SPDX-License-Identifier: Apache-2.0
"""The secure channel's status and key: what is read of them, and that what is wrong is refused as a whole, by name."""

import json
from typing import Any

import pytest

from ipc.codec import decode, encode
from ipc.errors import InputError
from tests.fabric.host_channel import STATES, Channel
from workers.parser import channel_key, key_status
from workers.parser.bounds import MAX_DOCUMENT_BYTES

GUID = "b1946ac9-2492-4d23-a5ad-6f2e7a1f8c10"
HEX = "0a" * 31 + "F1"
ACCESS = {"defaultAccess": "deny", "mode": "enforce", "id": "sig/x", "rules": {"privileges": [{"path": "/"}]}}
FIRST: dict[str, Any] = {
    "authorizationScheme": "Azure-HMAC-SHA256",
    "keyDeliveryMethod": "http",
    "keyGuid": None,
    "requiredClaimsHeaderPairs": ["isRoot"],
    "version": "1.0",
    "secureChannelState": "Wireserver",
}
SECOND: dict[str, Any] = {
    **FIRST,
    "keyGuid": GUID,
    "keyIncarnationId": 3,
    "version": "2.0",
    "secureChannelState": None,
    "secureChannelEnabled": True,
    "authorizationRules": {"wireserver": ACCESS, "imds": {**ACCESS, "mode": "Audit"}, "hostga": ACCESS},
    "somethingNew": {"that": ["nobody", "knows"]},
}
KEY: dict[str, Any] = {
    "authorizationScheme": "Azure-HMAC-SHA256",
    "incarnationId": 3,
    "guid": GUID,
    "issued": "2026-11-23T08:11:07.123456Z",
    "key": HEX,
}


def having(document: dict[str, Any], **changes: Any) -> bytes:
    """The document with fields set anew; `...` leaves one out."""
    return json.dumps({name: value for name, value in {**document, **changes}.items() if value is not ...}).encode()


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ("Disabled", (False, "disabled", "disabled")),
        ("AUDIT", (True, "audit", "audit")),
        ("wireServer", (True, "enforce", "audit")),
        ("WireserverAndImds", (True, "enforce", "enforce")),
    ],
)
def test_version_1_has_one_state(state: str, expected: tuple[bool, str, str]) -> None:
    found = key_status.parse(having(FIRST, secureChannelState=state))
    assert (found.on, found.wireserver, found.imds) == expected
    assert (found.version, found.delivery, found.key_guid, found.incarnation) == ("1.0", "http", None, None)


def test_version_2_has_a_switch_and_modes() -> None:
    found = key_status.parse(having(SECOND))
    assert (found.on, found.wireserver, found.imds, found.key_guid, found.incarnation) == (
        True, "enforce", "audit", GUID, 3,
    )  # fmt: skip
    off = key_status.parse(
        having(SECOND, secureChannelEnabled=False, authorizationRules=None, keyDeliveryMethod="VTPM")
    )
    assert (off.on, off.wireserver, off.imds, off.delivery) == (False, "disabled", "disabled", "vtpm")
    assert decode(encode(found, 0)).message == found


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("mode", [*STATES, "off"])
def test_what_the_emulated_host_tells_is_read(version: str, mode: str) -> None:
    found = key_status.parse(Channel(mode, version).status().encode())
    assert found.on == (mode != "off" and (version, mode) != ("1.0", "disabled"))
    key = channel_key.parse(Channel(mode, version).new_key(1e9).encode())
    assert key.issued == "2001-09-09T01:46:40.000000Z"


@pytest.mark.parametrize(
    ("document", "where"),
    [
        (b"", "document"),
        (b"{", "document"),
        (b"[]", "document"),
        (b"null", "document"),
        (b"<html/>", "document"),
        (having(SECOND) + b"x", "document"),
        (having(SECOND)[:-1], "document"),
        (b"\xff\xfe" + having(SECOND), "document"),
        (having(SECOND).replace(b"Azure-HMAC", b"Azure-HMA\xc3"), "document"),
        (b'{"x": ' + b"[" * 100_000, "document"),
        (b" " * (MAX_DOCUMENT_BYTES + 1), "document"),
        (having(SECOND, authorizationScheme=...), "document"),
        (having(SECOND, authorizationScheme="Azure-HMAC-SHA512"), "authorizationScheme"),
        (having(SECOND, keyDeliveryMethod="https"), "keyDeliveryMethod"),
        (having(SECOND, keyDeliveryMethod=1), "keyDeliveryMethod"),
        (having(SECOND, version="3.0"), "version"),
        (having(SECOND, version=2.0), "version"),
        (having(SECOND, version="1.0"), "secureChannelState"),
        (having(FIRST, version="2.0"), "secureChannelEnabled"),
        (having(FIRST, secureChannelState="Enforce"), "secureChannelState"),
        (having(FIRST, secureChannelState=""), "secureChannelState"),
        (having(SECOND, secureChannelEnabled="true"), "secureChannelEnabled"),
        (having(SECOND, keyGuid=""), "keyGuid"),
        (having(SECOND, keyGuid="../../" + GUID[6:]), "keyGuid"),
        (having(SECOND, keyGuid=GUID + "\n"), "keyGuid"),
        (having(SECOND, keyIncarnationId=-1), "keyIncarnationId"),
        (having(SECOND, keyIncarnationId=2**64), "keyIncarnationId"),
        (having(SECOND, keyIncarnationId=1.5), "keyIncarnationId"),
        (having(SECOND, requiredClaimsHeaderPairs="isRoot"), "requiredClaimsHeaderPairs"),
        (having(SECOND, authorizationRules=[]), "authorizationRules"),
        (having(SECOND, authorizationRules={"imds": {**ACCESS, "mode": "on"}}), "authorizationRules.imds.mode"),
        (having(SECOND, authorizationRules={"hostga": {**ACCESS, "mode": "x"}}), "authorizationRules.hostga.mode"),
        (
            having(SECOND, authorizationRules={"imds": {**ACCESS, "defaultAccess": "no"}}),
            "authorizationRules.imds.defaultAccess",
        ),
    ],
)  # fmt: skip
def test_a_status_that_cannot_be_used_is_refused_as_a_whole(document: bytes, where: str) -> None:
    with pytest.raises(InputError) as refused:
        key_status.parse(document)
    assert refused.value.where == where


def test_a_key_is_read_and_never_shown() -> None:
    found = channel_key.parse(b"\xef\xbb\xbf" + having(KEY))
    assert (found.guid, found.key.reveal(), found.incarnation) == (GUID, HEX, 3)
    assert HEX not in f"{found} {found!r}"
    assert channel_key.parse(having(KEY, incarnationId=..., issued="2026-11-23T08:11:07+01:00")).incarnation is None
    assert decode(encode(found, 0)).message == found


@pytest.mark.parametrize(
    ("document", "where"),
    [
        (having(KEY, key=HEX[:-1]), "key"),
        (having(KEY, key=HEX + "0"), "key"),
        (having(KEY, key="g" + HEX[1:]), "key"),
        (having(KEY, key=[HEX]), "key"),
        (having(KEY, key=...), "document"),
        (having(KEY, guid=HEX), "guid"),
        (having(KEY, guid=f"{GUID}\n"), "guid"),
        (having(KEY, issued="yesterday"), "issued"),
        (having(KEY, issued=HEX), "issued"),
        (having(KEY, incarnationId=HEX), "incarnationId"),
        (having(KEY, authorizationScheme=HEX), "authorizationScheme"),
        (having(KEY)[:-3], "document"),
        (having(KEY).replace(b"Azure", b"\xff"), "document"),
    ],
)
def test_a_key_that_cannot_be_used_is_refused_without_a_word_of_it(document: bytes, where: str) -> None:
    with pytest.raises(InputError) as refused:
        channel_key.parse(document)
    assert refused.value.where == where
    assert HEX[:8] not in str(refused.value)
