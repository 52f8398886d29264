# SPDX-License-Identifier: Apache-2.0
"""Owns the host's end of the secure channel: whose key is latched, what it tells of it, which requests it lets pass.

Runs in test processes; the caller holds the lock. Every signature that comes is verified, whatever the mode.
"""

import json
import re
import secrets
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.fabric.host_signature import AUTHORIZATION, SCHEME, signature, wall_of
from tests.fabric.wire_request import Request

# How every key begins, so that it can be looked for.
PLANTED = "5ec4e7c0ffee"
CLAIMS = {"isRoot": "true"}
# So far may the date of a request be from the host's own.
TOLERANCE_S = 300.0
WANTED = {"authorizationScheme": SCHEME}
FORM = re.compile(rf"{SCHEME} ([0-9a-fA-F-]{{36}}) ([0-9a-f]{{64}})")
NEVER_SIGNED = (("PUT", "/vmagentlog"), ("POST", "/machine/?comp=telemetrydata"))
ATTESTED = re.compile(r"/secure-channel/key/([^/?]+)/key-attestation")
# Version 1.0 has one state for each of these.
STATES = {"disabled": "Disabled", "audit": "Audit", "enforce": "WireserverAndImds"}


@dataclass
class Channel:
    """The channel of one caller. `mode` None: the host has no such thing. `keys` are those made, by their GUID; the one
    `latched` is the only one that counts. `text` is told instead of the status, if set."""

    mode: str | None = None
    version: str = "2.0"
    delivery: str = "http"
    keys: dict[str, str] = field(default_factory=dict)
    latched: str = ""
    incarnation: int = 1
    text: str = ""

    @property
    def is_on(self) -> bool:
        return self.mode not in {None, "off"} and not (self.version == "1.0" and self.mode == "disabled")

    @property
    def demands(self) -> bool:
        """Whether a request without a signature is refused."""
        return self.is_on and self.mode == "enforce" and bool(self.latched)

    def set(self, *words: str) -> None:
        """`absent`, `off` or a mode, then any of version=, delivery=; or `latch-other`, `forget`, `text=JSON`. Raises
        ValueError."""
        for word in words:
            name, is_setting, value = word.partition("=")
            if is_setting and name in {"version", "delivery", "text"}:
                setattr(self, name, value)
            elif word in {"absent", "off", "disabled", "audit", "enforce"}:
                self.mode = None if word == "absent" else word
            elif word == "latch-other":
                self._latch_other()
            elif word == "forget":
                self.keys, self.latched, self.incarnation = {}, "", self.incarnation + 1
            else:
                raise ValueError(f"{word!r} says nothing about a secure channel")

    def status(self) -> str:
        """The key status (secure-channel.md, Endpoints)."""
        if self.text:
            return self.text
        told: dict[str, Any] = {
            "authorizationScheme": SCHEME,
            "keyDeliveryMethod": self.delivery,
            "keyGuid": self.latched or None,
            "keyIncarnationId": self.incarnation,
            "requiredClaimsHeaderPairs": ["isRoot"],
            "version": self.version,
        }
        if self.version == "1.0":
            told["secureChannelState"] = STATES.get(self.mode or "off", "Disabled")
        else:
            mode = self.mode if self.mode in STATES else "disabled"
            item = {"defaultAccess": "allow", "mode": mode, "id": str(uuid.uuid4()), "rules": None}
            told["secureChannelEnabled"] = self.mode not in {None, "off"}
            told["authorizationRules"] = {"wireserver": item, "imds": {**item, "mode": "Audit"}, "hostga": item}
        # An id of a rule stays the same as long as the rule does.
        return re.sub(r'"id": "[^"]*"', '"id": "/SIG/rule/1"', json.dumps(told))

    def new_key(self, wall: float) -> str:
        """A key made now (secure-channel.md, Endpoints); it counts once it is attested."""
        guid, key = str(uuid.uuid4()), PLANTED + secrets.token_hex(32 - len(PLANTED) // 2)
        self.keys[guid] = key
        issued = datetime.fromtimestamp(wall, UTC).isoformat(timespec="microseconds")
        return json.dumps(
            {
                "authorizationScheme": SCHEME,
                "incarnationId": self.incarnation,
                "guid": guid,
                "issued": issued.replace("+00:00", "Z"),
                "key": key.upper(),
            }
        )

    def _latch_other(self) -> None:
        self.latched = str(uuid.uuid4())
        self.keys = {self.latched: secrets.token_hex(32)}


def check_signature(channel: Channel, request: Request, wall: float) -> None:
    """Hold what a request says of itself against the rules of the channel. Raises Refusal.

    `wall` is the host's time. What is signed with anything but the latched key is refused in every mode; an attestation
    is signed with the key that it is about."""
    demand, given = request.trial.demand, request.header(AUTHORIZATION)
    if (request.method, request.target.lower()) in NEVER_SIGNED and (given or channel.mode):
        demand("signature-never", given is None, f"{request.method} {request.target} is signed", 403)
        return
    of_channel = request.target.startswith("/secure-channel/")
    attested = ATTESTED.fullmatch(request.target)
    if given is None and channel.mode is None:
        return  # a host without the channel has no rule to hold it against
    if given is None:
        may_pass = of_channel and attested is None
        demand("signature-given", may_pass or not (attested or channel.demands), "the request is not signed", 403)
        return
    demand("signature-given", True, "")
    parts = FORM.fullmatch(given)
    demand("signature-form", parts is not None, f"{AUTHORIZATION} is no {SCHEME} GUID SIGNATURE", 403)
    assert parts is not None
    guid, told = parts.groups()
    known = guid == (attested[1] if attested else channel.latched)
    key = channel.keys.get(guid)
    demand("signature-key", known and key is not None, "signed with a key that is not the latched one", 403)
    assert key is not None
    _check_claims(request)
    date = wall_of(request.header("x-ms-azure-host-date"))
    near = date is not None and abs(date - wall) <= TOLERANCE_S
    demand("channel-date", near, "x-ms-azure-host-date is no date close to the host's", 403)
    right = signature(key, request.method, request.target, request.headers, request.body)
    demand("signature-right", told == right, "the signature is not that of this request", 403)


def check_form(request: Request, wall: float) -> None:
    """What every request about the channel itself has. Raises Refusal."""
    demand = request.trial.demand
    demand("channel-metadata", request.header("Metadata") == "True", "Metadata is not True")
    demand("channel-length", request.header("Content-Length") is not None, "Content-Length is missing")
    date = wall_of(request.header("x-ms-azure-host-date"))
    # Whoever asks for the first time can't know the host's time yet.
    demand("channel-date", date is not None, "x-ms-azure-host-date is no date of RFC 1123 in GMT")
    _check_claims(request)


def check_wanted(request: Request) -> None:
    """The body with which a key is asked for. Raises Refusal."""
    demand = request.trial.demand
    kind = request.header("Content-Type")
    demand("channel-wanted", kind == "application/json", f"Content-Type is {kind!r} instead of 'application/json'")
    try:
        wanted = json.loads(request.body)
    except ValueError:
        wanted = None
    demand("channel-wanted", wanted == WANTED, f"the body is not {json.dumps(WANTED)}")


def _check_claims(request: Request) -> None:
    try:
        claims = json.loads(request.header("x-ms-azure-host-claims") or "")
    except ValueError:
        claims = None
    request.trial.demand("channel-claims", claims == CLAIMS, "x-ms-azure-host-claims is not that of a root caller")
