# SPDX-License-Identifier: Apache-2.0
"""Owns InVMArtifactsProfile (wire-protocol.md 7): its bytes to whether the VM is on hold; runs in the parser.

It refuses nothing: whatever is wrong with it, the VM is not on hold, and the answer says why.
"""

from typing import Any

from ipc.errors import InputError
from ipc.messages import ArtifactsProfile
from workers.parser.json_document import decode

_PADDING = b"\0 \t\r\n"


def parse(document: bytes) -> ArtifactsProfile:
    """Zeros and white space behind it don't count."""
    content = document.rstrip(_PADDING)
    if not content:
        return ArtifactsProfile(False, "document: is empty")
    try:
        found = decode(content, Any)
    except InputError as error:
        return ArtifactsProfile(False, str(error)[:1000])
    if not isinstance(found, dict):
        return ArtifactsProfile(False, "document: is no object")
    match found.get("onHold", False):
        case bool(on_hold):
            return ArtifactsProfile(on_hold)
        case str(text) if text.lower() in ("true", "false"):
            return ArtifactsProfile(text.lower() == "true")
    return ArtifactsProfile(False, "onHold: is neither true nor false")
