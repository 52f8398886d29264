# SPDX-License-Identifier: Apache-2.0
"""Owns wrong requests, at least one for each rule of the book: a right request, and the one change that spoils it.

Runs in test processes. Each differs in nothing else from what the reference agent sends.
"""

import base64
import datetime
import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.fabric.documents import HEALTH_ROOT, RoleProperties
from tests.fabric.wire_client import (
    Draft,
    get_certificates,
    get_goal_state,
    get_part,
    get_versions,
    post_health,
    post_role_properties,
    report_on,
)
from tests.fabric.wire_rules import Offer
from tests.fabric.wireserver import WireServer

Spoil = Callable[[Draft], Draft | bytes]
# "unfetched": no goal state was fetched before; "superseded": a newer one, of another container, was published.
Moment = Literal["fetched", "unfetched", "superseded"]
CERTIFICATE = "x-ms-guest-agent-public-x509-cert"


@functools.cache
def certificate(kind: str = "rsa") -> str:
    """A self-signed certificate as the header has it: DER in base64, on one line."""
    key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "LinuxTransport")])
    day = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    unsigned = x509.CertificateBuilder(name, name, key.public_key(), 1, day, day + datetime.timedelta(730))
    return base64.b64encode(unsigned.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)).decode()


# The right requests, by the name of their route.
RIGHT: dict[str, Callable[[WireServer], Draft]] = {
    "versions": lambda server: get_versions(server.address),
    "goalstate": lambda server: get_goal_state(server.address),
    "hostingenvironment": lambda server: get_part(server.address, server.goal_state, "hostingenvironment"),
    "sharedconfig": lambda server: get_part(server.address, server.goal_state, "sharedconfig"),
    "extensionsconfig": lambda server: get_part(server.address, server.goal_state, "extensionsconfig"),
    "certificates": lambda server: get_certificates(server.address, server.goal_state, certificate()),
    "health": lambda server: post_health(server.address, report_on(server.goal_state, "Ready")),
    "roleproperties": lambda server: post_role_properties(
        server.address,
        RoleProperties(server.goal_state.container_id, server.goal_state.instance_id, "SHA256kJ0u/+x9"),
    ),
}


@dataclass(frozen=True)
class Wrong:
    """The right request of `route`, spoiled; `rule` refuses it, `why` is in the reason. With an `offer` of its own the
    host never lets the right one pass either."""

    rule: str
    route: str
    why: str
    spoil: Spoil = lambda draft: draft
    status: int = 400
    moment: Moment = "fetched"
    offer: Offer | None = None


def replacing(old: str, new: str) -> Spoil:
    """Change the body and its Content-Length."""

    def spoil(draft: Draft) -> Draft:
        body = draft.body.replace(old.encode(), new.encode(), 1)
        assert body != draft.body
        return replace(draft, body=body).having("Content-Length", str(len(body)))

    return spoil


def having(name: str, value: str | None) -> Spoil:
    return lambda draft: draft.having(name, value)


def adding(name: str, value: str) -> Spoil:
    return lambda draft: draft.adding(name, value)


def aiming(old: str, new: str) -> Spoil:
    """Change the target."""
    return lambda draft: replace(draft, target=draft.target.replace(old, new))


def _bare_newlines(draft: Draft) -> bytes:
    return draft.encode().replace(b"\r\n", b"\n")


def _absolute(draft: Draft) -> Draft:
    return replace(draft, target=f"http://{dict(draft.headers)['Host']}{draft.target}")


def _details(sub_status: str, description: str, state: str = "NotReady") -> Spoil:
    details = f"<Details><SubStatus>{sub_status}</SubStatus><Description>{description}</Description></Details>"
    return replacing(READY, f"<State>{state}</State>{details}")


READY = "<State>Ready</State>"
MANY = tuple((f"x-{number}", "1") for number in range(64))
XSD = f' xmlns:xsd="{HEALTH_ROOT["xmlns:xsd"]}"'
THUMBPRINT = '<Property name="CertificateThumbprint" value="SHA256kJ0u/+x9" />'

FORM = (
    Wrong("line-length", "goalstate", "longer than", adding("x-more", "x" * 9000)),
    Wrong("line-end", "goalstate", "CRLF", _bare_newlines),
    Wrong("line-ascii", "goalstate", "not printable ASCII", adding("x-more", "\u00e9")),
    Wrong("request-line", "goalstate", "not a request line", lambda draft: replace(draft, version="HTTP/2")),
    Wrong("header-form", "goalstate", "not a header", adding("x-more ", "1")),
    Wrong("header-form", "goalstate", "not a header", adding(" folded", "1")),
    Wrong("header-count", "goalstate", "more than 64", lambda draft: replace(draft, headers=draft.headers + MANY)),
    Wrong("no-transfer-encoding", "health", "Transfer-Encoding", adding("Transfer-Encoding", "chunked")),
    Wrong("length-given", "health", "POST without Content-Length", having("Content-Length", None)),
    Wrong("length-once", "health", "more than one Content-Length", adding("Content-Length", "1")),
    Wrong("length-size", "health", "Content-Length '-1'", having("Content-Length", "-1")),
    Wrong("length-size", "health", "Content-Length 'many'", having("Content-Length", "many")),
    Wrong("length-size", "health", "Content-Length '99999999'", having("Content-Length", "99999999")),
    Wrong("in-time", "health", "silence for 0.3 s within a body", having("Content-Length", "9999")),
    Wrong("http-version", "goalstate", "HTTP/1.0 instead", lambda draft: replace(draft, version="HTTP/1.0")),
    Wrong("origin-form", "goalstate", "absolute form", _absolute),
    Wrong("headers-once", "goalstate", "x-ms-version given more than once", adding("X-MS-Version", "2012-11-30")),
    Wrong("host-given", "goalstate", "Host header is missing", having("Host", None)),
    Wrong("host-right", "goalstate", "Host 'localhost'", having("Host", "localhost")),
    Wrong("connection", "goalstate", "Connection 'upgrade'", having("Connection", "upgrade")),
    Wrong("no-expect", "health", "Expect", adding("Expect", "100-continue")),
    Wrong(
        "no-body", "versions", "GET with a body", lambda draft: replace(draft.having("Content-Length", "1"), body=b"x")
    ),
)

RESOURCE = (
    Wrong("emulated", "sharedconfig", "not emulated: GET /machine/", aiming("sharedConfig", "fullConfig"), 404),
    Wrong("resource", "goalstate", "no such resource", aiming("/machine/", "/machine"), 404),
    Wrong("resource", "health", "no such resource", aiming("/machine", "/machine/"), 404),
    Wrong("resource", "versions", "no such resource", aiming("/?comp", "/?compx"), 404),
    Wrong("method", "goalstate", "DELETE instead of GET", lambda draft: replace(draft, method="DELETE"), 405),
    Wrong("method", "health", "PUT instead of POST", lambda draft: replace(draft, method="PUT"), 405),
    Wrong("agent-name", "health", "x-ms-agent-name is None", having("x-ms-agent-name", None)),
    Wrong("agent-name", "goalstate", "x-ms-agent-name is 'agent'", having("x-ms-agent-name", "agent")),
    Wrong("protocol-version", "health", "x-ms-version is None", having("x-ms-version", None)),
    Wrong("protocol-version", "sharedconfig", "is '2010-12-15'", having("x-ms-version", "2010-12-15")),
    Wrong("protocol-offered", "goalstate", "not offered", offer=Offer("2015-04-05", ("2015-04-05",))),
    Wrong("content-type", "health", "Content-Type is None", having("Content-Type", None)),
    Wrong("content-type", "roleproperties", "Content-Type is 'text/xml'", having("Content-Type", "text/xml")),
    Wrong("cipher-name", "certificates", "x-ms-cipher-name is None", having("x-ms-cipher-name", None)),
    Wrong("cipher-name", "certificates", "is 'RC2_CBC'", having("x-ms-cipher-name", "RC2_CBC")),
    Wrong("transport-certificate", "certificates", "is missing", having(CERTIFICATE, None)),
    Wrong("transport-certificate", "certificates", "no certificate", having(CERTIFICATE, "bm90IG9uZQ==")),
    Wrong(
        "transport-certificate", "certificates", "no certificate", having(CERTIFICATE, "-----BEGIN CERTIFICATE-----")
    ),
    Wrong(
        "transport-certificate",
        "certificates",
        "no RSA key",
        lambda draft: draft.having(CERTIFICATE, certificate("ec")),
    ),
    Wrong("address-issued", "sharedconfig", "no goal state names", aiming("incarnation=1", "incarnation=2"), 404),
    Wrong("address-issued", "certificates", "no goal state names", aiming("MachineRole", "OtherRole"), 404),
    Wrong("address-current", "extensionsconfig", "an earlier goal state", status=410, moment="superseded"),
    Wrong("address-current", "hostingenvironment", "an earlier goal state", status=410, moment="superseded"),
    Wrong("goal-state-first", "hostingenvironment", "before any goal state", moment="unfetched"),
    Wrong("goal-state-first", "health", "before any goal state", moment="unfetched"),
    Wrong("goal-state-first", "roleproperties", "before any goal state", moment="unfetched"),
)

HEALTH = (
    Wrong("xml", "health", "not well-formed", replacing("</State>", "</Sate>")),
    Wrong("xml", "health", "not well-formed", lambda d: d.having("Content-Length", "40").adding("Connection", "close")),
    Wrong("xml-no-dtd", "health", "has a DTD", replacing("<Health xmlns", "<!DOCTYPE Health><Health xmlns")),
    Wrong("xml-elements", "health", "Health holds no element", replacing(READY, "")),
    Wrong("xml-elements", "health", "GoalStateIncarnation, More, Cont", replacing("<Container>", "<More/><Container>")),
    Wrong("xml-no-text", "health", "Role has text", replacing("<Role>", "<Role>now")),
    Wrong("xml-no-attributes", "health", "State has attributes", replacing("<State>", '<State a="b">')),
    Wrong("xml-leaf", "health", "State holds elements", replacing("Ready<", "Ready<b/><")),
    Wrong("health-root", "health", "the root is not Health", replacing('XMLSchema"', 'Schema"')),
    Wrong("health-root", "health", "the root is not Health", replacing(XSD, "")),
    Wrong("health-state", "health", "State 'Busy' is neither", replacing("Ready<", "Busy<")),
    Wrong("health-details", "health", "without Details", _details("Provisioning", "Starting", "Ready")),
    Wrong("health-details", "health", "needs Details", replacing("Ready<", "NotReady<")),
    Wrong("health-sub-status", "health", "SubStatus 'Done' is none of", _details("Done", "Starting")),
    Wrong("health-description", "health", "Description is empty", _details("Provisioning", " ")),
    Wrong("health-description-size", "health", "4098 bytes", _details("ProvisioningFailed", "\u00e9" * 2049)),
    Wrong("incarnation-fetched", "health", "never fetched", replacing("Incarnation>1<", "Incarnation>7<")),
    Wrong("incarnation-fetched", "health", "never fetched", replacing("Incarnation>1<", "Incarnation>01<")),
    Wrong("container-issued", "health", "was never issued", replacing("<ContainerId>", "<ContainerId>x")),
    Wrong("container-current", "health", "an earlier goal state", status=410, moment="superseded"),
    Wrong("container-current", "roleproperties", "an earlier goal state", status=410, moment="superseded"),
    Wrong("instance-current", "health", "is not the current one", replacing("<InstanceId>", "<InstanceId>x")),
)

ROLE_PROPERTIES = (
    Wrong("container-issued", "roleproperties", "never issued", replacing("<ContainerId>", "<ContainerId>x")),
    Wrong("instance-current", "roleproperties", "not the current one", replacing("<Id>", "<Id>x")),
    Wrong("xml-elements", "roleproperties", "RoleInstance holds", replacing("<Id>", "<More/><Id>")),
)

WRONGS = (*FORM, *RESOURCE, *HEALTH, *ROLE_PROPERTIES)
