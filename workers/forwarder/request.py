# SPDX-License-Identifier: Apache-2.0
"""Owns the judgement on a request's head, as h11 has parsed it: refused with a status and a sentence, or passed on.

Runs in the forwarder. Pure. It never repairs anything: what two readers could understand differently is refused.
"""

import h11

from ipc.errors import AgentError
from ipc.messages import ForwardRequest, WireGrant
from policy.grants import is_passed_on, permitted, told

# Whoever sends one of these expects the connection to become something else, or to wait for a word from us.
UNSUPPORTED = {b"expect": 417, b"upgrade": 400}


class Refused(AgentError):
    """The handler gets `status` and the sentence."""

    def __init__(self, status: int, problem: str) -> None:
        super().__init__(problem)
        self.status = status


def judge(head: h11.Request, grant: WireGrant, address: str) -> ForwardRequest:
    """What goes on of it; Refused for what is outside `grant`, or is not addressed to port 80 of `address`."""
    fields = [(name, value) for name, value in head.headers]
    _check_framing(fields, grant)
    hosts = [value for name, value in fields if name == b"host"]
    if any(host not in {address.encode(), f"{address}:80".encode()} for host in hosts):
        raise Refused(400, f"Host is not {address}")
    # What is no ASCII becomes what no path and no method has in it.
    method, target = (part.decode("ascii", "replace") for part in (head.method, head.target))
    if not permitted(grant, method, target):
        raise Refused(403, f"not within the grant: {told(grant)}, and nothing else")
    texts = ((name.decode("ascii", "replace"), value.decode("latin-1")) for name, value in fields)
    kept = {name: value for name, value in texts if is_passed_on(name, value)}
    return ForwardRequest(method, target, tuple(sorted(kept.items())))  # type: ignore[arg-type]


def _check_framing(fields: list[tuple[bytes, bytes]], grant: WireGrant) -> None:
    """One way to tell how long the body is, and not too long."""
    values = dict(fields)
    for name, status in UNSUPPORTED.items():
        if name in values:
            raise Refused(status, f"header {name.decode()} is not supported here")
    if b"transfer-encoding" in values and b"content-length" in values:
        raise Refused(400, "the length of the body is told twice: by Content-Length and by Transfer-Encoding")
    if int(values.get(b"content-length", b"0")) > grant.body_bytes:
        raise too_long(grant)


def too_long(grant: WireGrant) -> Refused:
    """Why a body that is longer than the grant allows is refused."""
    return Refused(413, f"the body is longer than the {grant.body_bytes} bytes of the grant of {grant.handler}")
