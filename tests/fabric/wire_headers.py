# SPDX-License-Identifier: Apache-2.0
"""Owns the three sets of headers that requests to the WireServer have (wire-protocol.md 3), strictly.

Runs in test processes. Each check raises Refusal; `offered` is whether the host offers the one version there is.
"""

from tests.fabric.tenancy import certificate_problem
from tests.fabric.wire_request import Request

PROTOCOL_VERSION = "2012-11-30"
AGENT_NAME = "WALinuxAgent"
CIPHERS = ("AES128_CBC", "DES_EDE3_CBC")


def check_set_a(request: Request, offered: bool) -> None:
    """Who asks, by which version."""
    expected = (
        ("agent-name", "x-ms-agent-name", AGENT_NAME),
        ("protocol-version", "x-ms-version", PROTOCOL_VERSION),
    )
    for rule, name, value in expected:
        found = request.header(name)
        request.trial.demand(rule, found == value, f"{name} is {found!r} instead of {value!r}")
    why = f"x-ms-version {PROTOCOL_VERSION} is not offered by this host"
    request.trial.demand("protocol-offered", offered, why)


def check_set_b(request: Request, offered: bool) -> None:
    """The same, with a document in XML."""
    check_set_a(request, offered)
    kind = request.header("Content-Type")
    right = (kind or "").replace(" ", "").lower() == "text/xml;charset=utf-8"
    request.trial.demand("content-type", right, f"Content-Type is {kind!r} instead of 'text/xml;charset=utf-8'")


def check_set_c(request: Request, offered: bool) -> tuple[str, str]:
    """The same as A, with the transport certificate, as it came, and the cipher asked for: those are returned."""
    check_set_a(request, offered)
    demand = request.trial.demand
    cipher, header = request.header("x-ms-cipher-name"), request.header("x-ms-guest-agent-public-x509-cert")
    demand("cipher-name", cipher in CIPHERS, f"x-ms-cipher-name is {cipher!r} instead of {' or '.join(CIPHERS)}")
    problem = certificate_problem(header)
    demand("transport-certificate", not problem, f"x-ms-guest-agent-public-x509-cert {problem}")
    return header or "", cipher or ""
