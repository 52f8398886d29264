# SPDX-License-Identifier: Apache-2.0
"""Owns the book: every rule by which the emulated host may refuse a request, and the trial that holds one against them.

Runs in test processes. What is not in the book can refuse nothing; what passed is remembered, rule by rule.
"""

from dataclasses import dataclass, field

# Rule -> what the host demands. RFC 9112 stands behind those of form, wire-protocol.md behind the others.
RULES: dict[str, str] = {
    # the form of a request (wire_request.py)
    "line-length": "no line of the head is longer than 8 KiB",
    "line-end": "every line of the head ends in CRLF",
    "line-ascii": "the head is printable ASCII",
    "request-line": "the first line is METHOD TARGET HTTP/n.n",
    "header-form": "a header is a token, a colon and a value, on one line",
    "header-count": "at most 64 headers",
    "no-transfer-encoding": "the body's size is told by Content-Length alone",
    "length-given": "what brings a body says how long it is",
    "length-once": "there is one Content-Length",
    "length-size": "Content-Length is a number of bytes, up to 1 MiB",
    "in-time": "the whole request arrives within the host's patience",
    "http-version": "HTTP/1.1",
    "origin-form": "the target is a path",
    "headers-once": "no header is given twice",
    "host-given": "there is a Host header",
    "host-right": "Host is the address that was connected to",
    "connection": "Connection is close or keep-alive",
    "no-expect": "there is no Expect",
    "no-body": "a GET has no body",
    # what is asked for (wire_rules.py)
    "emulated": "the resource is one that this emulation has (the real host has more)",
    "resource": "the resource is one that the host has",
    "method": "the method is that of the resource",
    "agent-name": "x-ms-agent-name is WALinuxAgent",
    "protocol-version": "x-ms-version is 2012-11-30",
    "protocol-offered": "the version asked for is one that the host offers",
    "content-type": "Content-Type is text/xml;charset=utf-8",
    "cipher-name": "x-ms-cipher-name is AES128_CBC or DES_EDE3_CBC",
    "transport-certificate": "x-ms-guest-agent-public-x509-cert is an RSA certificate in DER in base64, on one line",
    "goal-state-first": "a whole goal state was fetched before",
    "address-issued": "the address is one that a goal state named",
    "address-current": "the address is one that the current goal state names",
    # reports (documents.py)
    "xml": "the body is well-formed XML in UTF-8",
    "xml-no-dtd": "the body has no DTD",
    "xml-elements": "each element holds exactly the elements that belong there, in their order",
    "xml-no-text": "no text stands between elements",
    "xml-no-attributes": "inner elements have no attributes",
    "xml-leaf": "an element of text holds no elements",
    "health-root": "the root is Health with the two namespace declarations",
    "health-state": "State is Ready or NotReady",
    "health-details": "NotReady has Details, Ready has none",
    "health-sub-status": "SubStatus is Provisioning or ProvisioningFailed",
    "health-description": "Description says something",
    "health-description-size": "Description has at most 4096 bytes",
    # reports against what the host knows (wire_rules.py)
    "incarnation-fetched": "the incarnation reported on was fetched",
    "container-issued": "the container is one that a goal state named",
    "container-current": "the container is that of the current goal state",
    "instance-current": "the role instance is that of the current goal state",
}


class Refusal(Exception):
    """A request is refused with `status` by `rule`, because of `why`."""

    def __init__(self, rule: str, why: str, status: int = 400) -> None:
        super().__init__(why)
        self.rule = rule
        self.why = why
        self.status = status


@dataclass
class Trial:
    """One request before the rules; `passed` are those that it was held against and met, in the order of the trial."""

    _passed: dict[str, None] = field(default_factory=dict)

    @property
    def passed(self) -> tuple[str, ...]:
        return tuple(self._passed)

    def demand(self, rule: str, holds: bool, why: str, status: int = 400) -> None:
        """Hold the request against `rule`. Raises Refusal unless it `holds`, KeyError for a rule not in the book."""
        RULES[rule]
        if not holds:
            self._passed.pop(rule, None)  # it may have held for an earlier line or element
            raise Refusal(rule, why, status)
        self._passed[rule] = None
