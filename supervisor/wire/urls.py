# SPDX-License-Identifier: Apache-2.0
"""Owns what may be asked for by a URL that stands in a document of the host's: of the sender, and of nobody else.

Runs in the supervisor, whose sockets alone pass the rule in front of the WireServer: no document may aim them. Pure.
"""

import re

from ipc.errors import HostError

# No user info, no name that would have to be looked up, no fragment; the path as it is sent.
_URL = re.compile(r"http://([0-9]{1,3}(?:\.[0-9]{1,3}){3})(?::([0-9]{1,5}))?(/[!-\"$-~]*)?", re.IGNORECASE)
_HTTP_PORT = 80
_SHOWN = 200


class ForeignUrl(HostError):
    """A URL that is not of the host that sent it."""


def target_on(url: str, address: str, port: int, what: str) -> str:
    """The path and query of `url`, if it is one of http at (`address`, `port`); `what` names it in the ForeignUrl."""
    found = _URL.fullmatch(url)
    if found is None or (found[1], int(found[2] or _HTTP_PORT)) != (address, port):
        raise ForeignUrl(
            f"{what}: the host sent the URL {shown(url)!r}, and is asked only for what begins with "
            f"http://{address}:{port}/; it is not fetched"
        )
    return found[3] or "/"


def shown(url: str) -> str:
    """`url` as it may stand in a text: without its query, which may hold a SAS token, or user info; not too long."""
    bare = url.partition("?")[0].partition("#")[0]
    scheme, separator, rest = bare.partition("://")
    authority, slash, path = rest.partition("/")
    host = authority.rpartition("@")[2]
    text = f"{scheme}{separator}{host}{slash}{path}" if separator else bare.rpartition("@")[2]
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
