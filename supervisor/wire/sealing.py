# SPDX-License-Identifier: Apache-2.0
"""Owns what the secure channel adds to a request at the moment of sending: date, claims, and the signature.

Runs in the supervisor. It is the last step before the bytes go out: nothing may change a head after it.
"""

from typing import TYPE_CHECKING

from supervisor.wire.canonical import AUTHORIZATION, Headers, canonical
from supervisor.wire.host_time import HostTime, write_date
from supervisor.wire.requests import Request

if TYPE_CHECKING:
    from supervisor.wire.signing import SigningKey

CLAIMS = b'{ "isRoot": "true"}'
# The host wants them without a signature, whatever the state of the channel.
NEVER_SIGNED = frozenset({(b"PUT", b"/vmagentlog"), (b"POST", b"/machine/?comp=telemetrydata")})


class Sealing:
    """With a `key` every request is signed that may be; without one requests go out as they are."""

    def __init__(self, time: HostTime) -> None:
        self.key: SigningKey | None = None
        self.time = time

    def added(self, request: Request) -> Headers:
        """The headers that `request` gets beside its own when it is sent now: each sending has a date of its own."""
        head = request.head
        never = (head.method, head.target.lower()) in NEVER_SIGNED
        key = request.key if request.of_channel or never else self.key
        if key is None and not request.of_channel:
            return []
        own = list(head.headers)
        added = [
            (b"x-ms-azure-host-date", write_date(self.time.now).encode("ascii")),
            (b"x-ms-azure-host-claims", CLAIMS),
        ]
        if not request.body and not any(name == b"content-length" for name, _ in own):
            added.append((b"Content-Length", b"0"))
        if key is not None:
            signed = canonical(head.method, head.target, own + added, request.body)
            added.append((AUTHORIZATION, key.authorization(signed)))
        return added
