# SPDX-License-Identifier: Apache-2.0
"""Owns the text of reports to the host (wire-protocol.md 9 and 10): typed facts in, XML bytes out.

Runs in the supervisor. Nothing gets into the document unescaped: ids come from a parser of untrusted bytes, and error
texts may quote anything.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Literal

import msgspec

State = Literal["Ready", "NotReady"]

# The service takes 4096 bytes of description; waagent leaves a tenth of it to whatever the service adds.
MAX_DESCRIPTION_CHARACTERS = 3686
MAX_DESCRIPTION_BYTES = 4096

# Everything that XML 1.0 has no way to carry, not even as a character reference; lone surrogates among it.
_UNCARRIED = "[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
_REPLACEMENT = "\ufffd"


class RoleIds(msgspec.Struct, frozen=True):
    """Whom a report is about, from the latest goal state."""

    incarnation: str
    container_id: str
    instance_id: str


def health(ids: RoleIds, state: State, substatus: str = "", description: str = "") -> bytes:
    """The document in UTF-8. Without `substatus` and `description` there is no Details element."""
    details = ""
    if substatus or description:
        details = (
            f"<Details><SubStatus>{escape(substatus)}</SubStatus>"
            f"<Description>{escape(trimmed(description))}</Description></Details>"
        )
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        '<Health xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:xsd="http://www.w3.org/2001/XMLSchema">'
        f"<GoalStateIncarnation>{escape(ids.incarnation)}</GoalStateIncarnation>"
        f"<Container><ContainerId>{escape(ids.container_id)}</ContainerId>"
        f"<RoleInstanceList><Role><InstanceId>{escape(ids.instance_id)}</InstanceId>"
        f"<Health><State>{escape(state)}</State>{details}</Health>"
        "</Role></RoleInstanceList></Container></Health>"
    ).encode()


def role_properties(ids: RoleIds, properties: Mapping[str, str]) -> bytes:
    """The document in UTF-8: properties of the VM's role by their names."""
    elements = "".join(
        f'<Property name="{quoted(name)}" value="{quoted(value)}" />' for name, value in properties.items()
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        f"<RoleProperties><Container><ContainerId>{escape(ids.container_id)}</ContainerId>"
        f"<RoleInstances><RoleInstance><Id>{escape(ids.instance_id)}</Id>"
        f"<Properties>{elements}</Properties>"
        "</RoleInstance></RoleInstances></Container></RoleProperties>"
    ).encode()


@cache
def _uncarried() -> re.Pattern[str]:
    """Compiled at the first report: it takes 5 ms, on the way to the first worker if it were done at import."""
    return re.compile(_UNCARRIED)


def trimmed(description: str) -> str:
    """At most what the service takes, in characters and in bytes, before escaping."""
    carried = _uncarried().sub(_REPLACEMENT, description[:MAX_DESCRIPTION_CHARACTERS])
    return carried.encode()[:MAX_DESCRIPTION_BYTES].decode(errors="ignore")


def escape(text: str) -> str:
    """`text` as element content."""
    carried = _uncarried().sub(_REPLACEMENT, text)
    return carried.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def quoted(text: str) -> str:
    """`text` as an attribute's value between double quotes; white space is kept as it is."""
    spaces = {"\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
    return "".join(spaces.get(character, character) for character in escape(text).replace('"', "&quot;"))
