# SPDX-License-Identifier: Apache-2.0
"""Owns the GoalState document (wire-protocol.md 4): its bytes to a typed `GoalState`; runs in the parser."""

from ipc.errors import InputError
from ipc.messages import GoalState, RoleInstance
from workers.parser import xml

# The lengths that ipc/messages.py allows.
MAX_TEXT = 1024
MAX_URL = 4096


def parse(document: bytes) -> GoalState:
    """Raises InputError that names the element, or the line and column.

    While the host has assigned no role instance, the container may be missing as well: then its id is empty."""
    root = xml.parse(xml.as_utf8(document), namespaces=False)
    if root.name != "GoalState":
        raise InputError("GoalState", "is not the document's root element")
    container, instance = root.first("Container"), root.first("RoleInstance")
    container_id = _text(container, "ContainerId")
    if instance is not None and not container_id:
        raise InputError("Container/ContainerId", "is missing or empty")
    return GoalState(
        incarnation=_required(root, "Incarnation", "GoalState"),
        container_id=container_id,
        remote_access_url=_text(container, "RemoteAccessInfo", MAX_URL),
        role_instance=None if instance is None else _role_instance(instance),
    )


def _role_instance(node: xml.Element) -> RoleInstance:
    configuration = node.first("Configuration")
    return RoleInstance(
        instance_id=_required(node, "InstanceId", "RoleInstance"),
        config_name=_text(configuration, "ConfigName"),
        hosting_environment_url=_text(configuration, "HostingEnvironmentConfig", MAX_URL),
        shared_config_url=_text(configuration, "SharedConfig", MAX_URL),
        extensions_config_url=_text(configuration, "ExtensionsConfig", MAX_URL),
        certificates_url=_text(configuration, "Certificates", MAX_URL),
    )


def _required(node: xml.Element, name: str, container: str) -> str:
    text = _text(node, name)
    if not text:
        raise InputError(f"{container}/{name}", "is missing or empty")
    return text


def _text(node: xml.Element | None, name: str, limit: int = MAX_TEXT) -> str:
    """The text below `node` without white space around it (real goal states break lines there), empty if none."""
    text = "" if node is None else (node.text_of(name) or "").strip()
    if len(text) > limit:
        raise InputError(name, f"is longer than {limit} characters")
    return text
