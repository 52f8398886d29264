# SPDX-License-Identifier: Apache-2.0
"""Owns the RemoteAccess document (wire-protocol.md 8): its bytes to a typed `RemoteAccess`; runs in the parser.

What is wrong with one account is that account's `problem`. Passwords stay in their closed envelopes.
"""

import re
from datetime import UTC, datetime

from ipc.errors import InputError
from ipc.messages import RemoteAccess, RemoteUser
from workers.parser import xml
from workers.parser.answer import fitting

MAX_USERS = 64
MAX_PASSWORD = 16384
MAX_NAME = 1024
_MONTHS = {name: number for number, name in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), 1)}
_CLOCK = r"([0-9]{1,2}):([0-9]{2}):([0-9]{2})"
# As the platform writes it, "Tue, 01 Jan 2019 00:00:00 UTC"; and ISO 8601 in UTC, which can't be mistaken either.
_WORDED = re.compile(
    rf"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), ([0-9]{{1,2}}) ([A-Z][a-z]{{2}}) ([0-9]{{4}}) {_CLOCK} (?:UTC|GMT)"
)
_ISO = re.compile(rf"([0-9]{{4}})-([0-9]{{2}})-([0-9]{{2}})T{_CLOCK}(?:\.[0-9]{{1,9}})?Z")


def parse(document: bytes) -> RemoteAccess:
    """Raises InputError that names the element, or the line and column."""
    root = xml.parse(xml.as_utf8(document), namespaces=False)
    if root.name != "RemoteAccess":
        raise InputError("RemoteAccess", "is not the document's root element")
    users = root.first("Users")
    nodes = [] if users is None else list(users.below("User"))
    if len(nodes) > MAX_USERS:
        raise InputError("Users", f"{len(nodes)} accounts, more than the {MAX_USERS} allowed")
    return fitting(RemoteAccess((root.text_of("Incarnation") or "").strip(), tuple(map(_user, nodes))))


def _user(node: xml.Element) -> RemoteUser:
    name, password = (node.text_of("Name") or "").strip(), "".join((node.text_of("Password") or "").split())
    expires_s = _expiry((node.text_of("Expiration") or "").strip())
    problem = _problem(name, password, expires_s)
    return RemoteUser(name[:MAX_NAME], "" if len(password) > MAX_PASSWORD else password, expires_s, problem)


def _problem(name: str, password: str, expires_s: int | None) -> str:
    if not name or len(name) > MAX_NAME:
        return f"Name is missing or longer than {MAX_NAME} characters"
    if not password or len(password) > MAX_PASSWORD:
        return f"Password is missing or longer than {MAX_PASSWORD} characters"
    if expires_s is None:
        return "Expiration is no time as in Tue, 01 Jan 2019 00:00:00 UTC"
    return ""


def _expiry(text: str) -> int | None:
    """Seconds since 1970, None for what is no such time."""
    if found := _WORDED.fullmatch(text):
        day, month, year = int(found[1]), _MONTHS.get(found[2], 0), int(found[3])
    elif found := _ISO.fullmatch(text):
        year, month, day = int(found[1]), int(found[2]), int(found[3])
    else:
        return None
    try:
        time = datetime(year, month, day, int(found[4]), int(found[5]), int(found[6]), tzinfo=UTC)
    except ValueError:
        return None
    return int(time.timestamp())
