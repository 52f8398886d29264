# SPDX-License-Identifier: Apache-2.0
"""Owns the conversation with the instance metadata service, IMDS (wire-protocol.md 14): never by way of a proxy.

Runs in the supervisor. It returns documents as bytes and must never look into one.
"""

import h11
import msgspec

from ipc.errors import HostError, HostRefused, ResourceGone
from supervisor.compatibility import AGENT_NAME, AGENT_VERSION
from supervisor.wire.asking import Asker
from supervisor.wire.connection import Limits
from supervisor.wire.host import HTTP_PORT, WireServer
from supervisor.wire.host_time import HostTime
from supervisor.wire.requests import Request
from supervisor.wire.retry import RetryPolicy

ADDRESS = "169.254.169.254"
API_VERSION = "2018-02-01"
COMPUTE = f"/metadata/instance/compute?api-version={API_VERSION}"
INSTANCE = f"/metadata/instance?api-version={API_VERSION}"
# Tags and user data grow with the tenant's taste; the service itself stops at 64 KiB.
MOST_BYTES = 256 * 1024
FIRST_SERVER_ERROR = 500
# It is asked again within the hour; what it says changes next to never.
PATIENCE = RetryPolicy(attempts=3, throttled_attempts=3)


class Metadata:
    """The service as this VM sees it. Each request raises HostUnreachable, HostRefused or ResourceGone."""

    def __init__(
        self, host: WireServer, *, address: str = ADDRESS, port: int = HTTP_PORT, patience: RetryPolicy = PATIENCE
    ) -> None:
        """`host` lends its seal: where the secure channel covers this service, it is the same key."""
        self._address = address
        self._patience = patience
        # What time it is, and whether we are known, the WireServer alone tells.
        around = msgspec.structs.replace(host.around, time=HostTime(host.around.loop.clock), on_unknown=lambda: None)
        self._asker = Asker(around, host.elsewhere((address, port), Limits()))

    async def compute(self) -> bytes:
        """What kind of VM this is: a JSON document."""
        return await self._fetch(COMPUTE, "")

    async def instance(self) -> bytes:
        """The same with its network: what tells that the service works."""
        return await self._fetch(INSTANCE, "+health")

    def close(self) -> None:
        """Give up what is under way, and whatever comes later."""
        self._asker.close()

    async def _fetch(self, target: str, suffix: str) -> bytes:
        fields = (
            ("Host", self._address),
            ("Accept-Encoding", "identity"),
            ("User-Agent", f"{AGENT_NAME}/{AGENT_VERSION}{suffix}"),
            ("Metadata", "True"),
        )
        head = h11.Request(method="GET", target=target, headers=list(fields))
        path = target.partition("?")[0]
        request = Request(f"GET {path} (IMDS)", head, b"", MOST_BYTES, repeatable=True, accepted=frozenset({200}))
        return (await self._asker.ask(request, self._patience)).body


def is_service_failure(error: HostError) -> bool:
    """Whether a failed request says that the service is unwell (5xx, 410). Anything else, no answer among it, says
    nothing of that: on some platforms there is none."""
    return isinstance(error, ResourceGone) or (isinstance(error, HostRefused) and error.status >= FIRST_SERVER_ERROR)
