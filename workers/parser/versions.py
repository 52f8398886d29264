# SPDX-License-Identifier: Apache-2.0
"""Owns the Versions document (wire-protocol.md 3): its bytes to a typed `Versions`; runs in the parser."""

from ipc.errors import InputError
from ipc.messages import Versions
from workers.parser import xml

# The limits that ipc/messages.py sets.
MAX_TEXT = 1024
MAX_SUPPORTED = 256
# One version is ten characters; together they must fit into a frame.
MAX_ALL_TEXT = 32 * 1024


def parse(document: bytes) -> Versions:
    """Raises InputError that names the element, or the line and column. No version preferred reads as empty."""
    root = xml.parse(xml.as_utf8(document), namespaces=False)
    if root.name != "Versions":
        raise InputError("Versions", "is not the document's root element")
    preferred = _versions(root.first("Preferred"))
    supported = _versions(root.first("Supported"))
    return Versions(preferred[0] if preferred else "", supported)


def _versions(node: xml.Element | None) -> tuple[str, ...]:
    versions = () if node is None else tuple((found.text or "").strip() for found in node.all("Version"))
    longest, total = max(map(len, versions), default=0), sum(map(len, versions))
    if len(versions) > MAX_SUPPORTED or longest > MAX_TEXT or total > MAX_ALL_TEXT:
        raise InputError("Versions", "more or longer versions than are allowed")
    return versions
