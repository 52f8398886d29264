# SPDX-License-Identifier: Apache-2.0
"""Owns the XML documents of the emulated WireServer: makes those it publishes, reads strictly those it is sent.

Runs in test processes. It knows the form of a document only, never whether its content fits the host's state.
"""

import uuid
from dataclasses import dataclass, field, replace
from urllib.parse import quote
from xml.parsers import expat
from xml.sax.saxutils import escape

from tests.fabric.plan import Plan
from tests.fabric.wire_book import Refusal, Trial

DECLARATION = '<?xml version="1.0" encoding="utf-8"?>'
HEALTH_ROOT = {
    "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
    "xmlns:xsd": "http://www.w3.org/2001/XMLSchema",
}
# Route -> the element of the goal state that holds its address.
PARTS = {
    "hostingenvironment": "HostingEnvironmentConfig",
    "sharedconfig": "SharedConfig",
    "extensionsconfig": "ExtensionsConfig",
    "fullconfig": "FullConfig",
    "certificates": "Certificates",
}
DESCRIPTION_LIMIT_BYTES = 4096
SUB_STATES = ("Provisioning", "ProvisioningFailed")
THUMBPRINT = "CertificateThumbprint"


def _new_id() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True)
class GoalState:
    """What one published goal state says (wire-protocol.md 4); `endpoint` is host:port as the URLs in it name it,
    empty for the address of the host that publishes it."""

    incarnation: int = 1
    container_id: str = field(default_factory=_new_id)
    deployment_id: str = field(default_factory=_new_id)
    instance_id: str = ""
    endpoint: str = ""
    extensions: bool = True
    plan: Plan = field(default_factory=Plan)

    def __post_init__(self) -> None:
        if not self.instance_id:
            object.__setattr__(self, "instance_id", f"{self.deployment_id}.MachineRole_IN_0")

    def successor(
        self, *, new_container: bool = True, instance_id: str = "", plan: Plan | None = None, steps: int = 1
    ) -> "GoalState":
        """The next goal state of the same deployment: incarnation + 1, or + `steps` (0: as after a hibernation)."""
        return replace(
            self,
            incarnation=self.incarnation + steps,
            container_id=_new_id() if new_container else self.container_id,
            instance_id=instance_id or self.instance_id,
            plan=plan or self.plan,
        )

    @property
    def config_name(self) -> str:
        """What the HostGAPlugin knows the VM by, beside the container."""
        return f"{self.deployment_id}.{self.incarnation}.{self.deployment_id}.{self.incarnation}._MachineRole.1.xml"

    def xml(self, *, with_instance: bool = True) -> str:
        """The document; without an instance the role list is empty, as before the host has assigned one."""
        instances = f"<RoleInstanceList>{self._role_instance()}</RoleInstanceList>" if with_instance else None
        return "\r\n".join(
            (
                DECLARATION,
                f'<GoalState xmlns:xsi="{HEALTH_ROOT["xmlns:xsi"]}" xsi:noNamespaceSchemaLocation="goalstate10.xsd">',
                "  <Version>2012-11-30</Version>",
                f"  <Incarnation>{self.incarnation}</Incarnation>",
                "  <Machine>",
                "    <ExpectedState>Started</ExpectedState>",
                "    <StopRolesDeadlineHint>300000</StopRolesDeadlineHint>",
                "    <LBProbePorts><Port>16001</Port></LBProbePorts>",
                "  </Machine>",
                "  <Container>",
                f"    <ContainerId>{escape(self.container_id)}</ContainerId>{self._remote_access()}",
                f"    {instances or '<RoleInstanceList />'}",
                "  </Container>",
                "</GoalState>",
            )
        )

    def targets(self) -> dict[str, str]:
        """The paths, with their queries, of the parts that this goal state names, by the name of their route."""
        instance = quote(self.instance_id, safe="").replace("-", "%2D").replace("_", "%5F")
        place = f"/machine/{self.deployment_id}/{instance}?comp="
        kinds = {
            "hostingenvironment": "config&type=hostingEnvironmentConfig",
            "sharedconfig": "config&type=sharedConfig",
            "extensionsconfig": "config&type=extensionsConfig",
            "fullconfig": "config&type=fullConfig",
            "certificates": "certificates",
        }
        if not self.extensions:
            del kinds["extensionsconfig"]
        if self.plan.users is not None:
            kinds["remoteaccess"] = "remoteaccessinfo"
        return {name: f"{place}{kind}&incarnation={self.incarnation}" for name, kind in kinds.items()}

    def _remote_access(self) -> str:
        if self.plan.users is None:
            return ""
        url = f"http://{self.endpoint}{self.targets()['remoteaccess']}"
        return f"<RemoteAccessInfo>{escape(url)}</RemoteAccessInfo>"

    def _role_instance(self) -> str:
        configuration = "".join(
            f"<{PARTS[name]}>{escape(f'http://{self.endpoint}{target}')}</{PARTS[name]}>"
            for name, target in self.targets().items()
            if name in PARTS
        )
        return (
            f"<RoleInstance><InstanceId>{escape(self.instance_id)}</InstanceId><State>Started</State>"
            f"<Configuration>{configuration}<ConfigName>{escape(self.config_name)}</ConfigName></Configuration></RoleInstance>"
        )


def versions_xml(preferred: str, supported: tuple[str, ...]) -> str:
    """The answer to `/?comp=versions` (wire-protocol.md 3)."""
    others = "".join(f"\r\n    <Version>{escape(version)}</Version>" for version in supported)
    return (
        f"{DECLARATION}\r\n<Versions>\r\n  <Preferred>\r\n    <Version>{escape(preferred)}</Version>\r\n"
        f"  </Preferred>\r\n  <Supported>{others}\r\n  </Supported>\r\n</Versions>"
    )


@dataclass(frozen=True)
class Health:
    """One health report (wire-protocol.md 9). `sub_status` and `description` are empty when there are no Details."""

    incarnation: str
    container_id: str
    instance_id: str
    state: str
    sub_status: str = ""
    description: str = ""

    def xml(self) -> str:
        """The report as the reference agent sends it; also for clients in tests."""
        details = (
            f"<Details><SubStatus>{escape(self.sub_status)}</SubStatus>"
            f"<Description>{escape(self.description)}</Description></Details>"
        )
        spaces = " ".join(f'{name}="{uri}"' for name, uri in HEALTH_ROOT.items())
        return (
            f"{DECLARATION}<Health {spaces}><GoalStateIncarnation>{escape(self.incarnation)}</GoalStateIncarnation>"
            f"<Container><ContainerId>{escape(self.container_id)}</ContainerId><RoleInstanceList><Role>"
            f"<InstanceId>{escape(self.instance_id)}</InstanceId><Health><State>{escape(self.state)}</State>"
            f"{details if self.sub_status else ''}</Health></Role></RoleInstanceList></Container></Health>"
        )


@dataclass(frozen=True)
class RoleProperties:
    """The role properties report (wire-protocol.md 10): the host key's fingerprint, without colons."""

    container_id: str
    instance_id: str
    thumbprint: str

    def xml(self) -> str:
        """The report as the reference agent has it; also for clients in tests."""
        return (
            f"{DECLARATION}<RoleProperties><Container><ContainerId>{escape(self.container_id)}</ContainerId>"
            f"<RoleInstances><RoleInstance><Id>{escape(self.instance_id)}</Id><Properties>"
            f'<Property name="{THUMBPRINT}" value="{escape(self.thumbprint)}" />'
            "</Properties></RoleInstance></RoleInstances></Container></RoleProperties>"
        )


def read_health(body: bytes, trial: Trial | None = None) -> Health:
    """The health report in `body`. Raises Refusal for anything but the exact form of wire-protocol.md 9.

    The limit on Description counts the UTF-8 bytes of the text itself, after its escapes are resolved."""
    trial = trial or Trial()
    root = tree(body, trial)
    right = root.name == "Health" and root.attributes == HEALTH_ROOT
    trial.demand("health-root", right, "the root is not Health with exactly the xsi and xsd namespace declarations")
    incarnation, container = root.exactly("GoalStateIncarnation", "Container")
    container_id, roles = container.exactly("ContainerId", "RoleInstanceList")
    (role,) = roles.exactly("Role")
    instance_id, health = role.exactly("InstanceId", "Health")
    details: tuple[str, ...] = ()
    if len(health.children) > 1:
        state, node = health.exactly("State", "Details")
        details = tuple(child.content() for child in node.exactly("SubStatus", "Description"))
    else:
        (state,) = health.exactly("State")
    report = Health(incarnation.content(), container_id.content(), instance_id.content(), state.content(), *details)
    _check_state(report, trial, detailed=bool(details))
    return report


def _check_state(report: Health, trial: Trial, *, detailed: bool) -> None:
    known = report.state in {"Ready", "NotReady"}
    trial.demand("health-state", known, f"State {report.state[:40]!r} is neither Ready nor NotReady")
    wants = report.state == "NotReady"
    why = "NotReady needs Details" if wants else "Ready comes without Details"
    trial.demand("health-details", detailed == wants, why)
    if not detailed:
        return
    named = report.sub_status in SUB_STATES
    why = f"SubStatus {report.sub_status[:40]!r} is none of {', '.join(SUB_STATES)}"
    trial.demand("health-sub-status", named, why)
    trial.demand("health-description", bool(report.description.strip()), "Description is empty")
    size = len(report.description.encode())
    fits = size <= DESCRIPTION_LIMIT_BYTES
    why = f"Description of {size} bytes is over the limit of {DESCRIPTION_LIMIT_BYTES}"
    trial.demand("health-description-size", fits, why)


def read_role_ids(body: bytes, trial: Trial) -> tuple[str, str]:
    """Container and instance id of the role properties in `body`; Refusal for another shape down to them.

    What properties it brings the host doesn't judge: no agent is known to send any but ours, whose tests read them with
    `read_role_properties`."""
    container_id, instance_id, _ = _role_parts(tree(body, trial))
    return container_id, instance_id


def read_role_properties(body: bytes) -> RoleProperties:
    """The role properties in `body`; Refusal or ValueError for anything but the exact form of wire-protocol.md 10."""
    root = tree(body, Trial())
    container_id, instance_id, properties = _role_parts(root)
    found = [(child.name, tuple(child.attributes), child.children, child.text) for child in properties.children]
    if (root.name, root.attributes) != ("RoleProperties", {}) or properties.text.strip():
        raise ValueError("not plain role properties")
    if found != [("Property", ("name", "value"), [], "")] or properties.children[0].attributes["name"] != THUMBPRINT:
        raise ValueError(f"something else than one Property with the name {THUMBPRINT} and a value")
    thumbprint = properties.children[0].attributes["value"]
    if not thumbprint or any(sign == ":" or sign.isspace() for sign in thumbprint):
        raise ValueError(f"{THUMBPRINT} {thumbprint[:80]!r} is empty or has colons or blanks")
    return RoleProperties(container_id, instance_id, thumbprint)


def _role_parts(root: "Node") -> "tuple[str, str, Node]":
    (container,) = root.exactly("Container")
    container_id, instances = container.exactly("ContainerId", "RoleInstances")
    (instance,) = instances.exactly("RoleInstance")
    instance_id, properties = instance.exactly("Id", "Properties")
    return container_id.content(), instance_id.content(), properties


@dataclass
class Node:
    """One element while and after it is read."""

    name: str
    attributes: dict[str, str]
    trial: Trial
    text: str = ""
    children: "list[Node]" = field(default_factory=list)

    def exactly(self, *names: str) -> "list[Node]":
        """The children, which must be these, in this order, with no text between them and no attributes."""
        found = [child.name for child in self.children]
        why = f"{self.name} holds {', '.join(found) or 'no element'} instead of {', '.join(names)}"
        self.trial.demand("xml-elements", found == list(names), why)
        self.trial.demand("xml-no-text", not self.text.strip(), f"{self.name} has text between its elements")
        for child in self.children:
            self.trial.demand("xml-no-attributes", not child.attributes, f"{child.name} has attributes")
        return self.children

    def content(self) -> str:
        """The text of an element without children."""
        self.trial.demand("xml-leaf", not self.children, f"{self.name} holds elements instead of text")
        return self.text


def tree(body: bytes, trial: Trial) -> Node:
    """The root of a well-formed UTF-8 document without DTD. Raises Refusal."""
    top = Node("", {}, trial)
    path = [top]

    def start(name: str, attributes: dict[str, str]) -> None:
        node = Node(name, attributes, trial)
        path[-1].children.append(node)
        path.append(node)

    def end(_name: str) -> None:
        path.pop()

    def text(data: str) -> None:
        path[-1].text += data

    def doctype(*_parts: object) -> None:
        raise Refusal("xml-no-dtd", "the document has a DTD")

    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(body, True)
    except expat.ExpatError as error:
        raise Refusal("xml", f"the body is not well-formed XML: {error}") from None
    for rule in ("xml", "xml-no-dtd"):
        trial.demand(rule, True, "")
    return top.children[0]
