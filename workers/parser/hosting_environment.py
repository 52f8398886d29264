# SPDX-License-Identifier: Apache-2.0
"""Owns HostingEnvironmentConfig (wire-protocol.md 4.2): its bytes to a typed `HostingEnvironment`; runs in the parser.

Only telemetry wants these names: one that is missing is empty.
"""

from ipc.errors import InputError
from ipc.messages import HostingEnvironment
from workers.parser import xml
from workers.parser.answer import fitting


def parse(document: bytes) -> HostingEnvironment:
    """Raises InputError that names the element, or the line and column."""
    root = xml.parse(xml.as_utf8(document), namespaces=False)
    if root.name != "HostingEnvironmentConfig":
        raise InputError("HostingEnvironmentConfig", "is not the document's root element")
    return fitting(
        HostingEnvironment(
            vm_name=_attribute(root, "Incarnation", "instance"),
            role_name=_attribute(root, "Role", "name"),
            deployment_name=_attribute(root, "Deployment", "name"),
        )
    )


def _attribute(root: xml.Element, element: str, name: str) -> str:
    found = root.first(element)
    return "" if found is None else found.attributes.get(name, "")
