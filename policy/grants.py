# SPDX-License-Identifier: Apache-2.0
"""Owns the rule of a grant to the WireServer: whether a request is within it, and what of its headers goes on.

Pure. Forwarder and supervisor ask it, each for itself; it never repairs a request, and is asked about nothing but text.
"""

import re
from collections.abc import Iterable, Iterator

from ipc.messages.grants import MOST_GRANTS, MOST_TARGET, WireGrant

# What may stand in a path and behind its question mark: no percent sign, no backslash, no space, no control, no "#".
_PATH = re.compile(r"(/[A-Za-z0-9_~:.-]+)+/?")
_QUERY = re.compile(r"[A-Za-z0-9_~:.=&,-]*")
_DOTS = frozenset({".", ".."})
# Printable, spaces only within.
_VALUE = re.compile(r"([\x21-\x7e]([\x20-\x7e]{0,1022}[\x21-\x7e])?)?")
CHANNEL = "/secure-channel"
# Headers of a request that go on, and no others: never Host, Authorization, Connection, nor what a signature is in.
HEADERS = frozenset(
    {"accept", "backup", "content-type", "user-agent", "useragent", "x-ms-client-request-id", "x-ms-version"}
)


def permitted(grant: WireGrant, method: str, target: str) -> bool:
    """Whether `method` with `target`, as it stands in the request line, is within `grant`."""
    if method not in grant.methods or len(target) > MOST_TARGET:
        return False
    path, mark, query = target.partition("?")
    if not _is_plain(path) or not _QUERY.fullmatch(query) or (mark and not query):
        return False
    return query in grant.queries and any(_covers(granted, path) for granted in grant.paths)


def is_passed_on(name: str, value: str) -> bool:
    """Whether a request's header goes on; `name` in lower case."""
    return name in HEADERS and _VALUE.fullmatch(value) is not None


def told(grant: WireGrant) -> str:
    """The grant in words, for whoever was refused, and for people."""
    queries = "" if grant.queries == ("",) else f" with {' or '.join(query or 'no query' for query in grant.queries)}"
    at = "" if grant.port == 80 else f" at port {grant.port}"
    return f"{grant.handler} may {' or '.join(grant.methods)} {', '.join(grant.paths)}{queries}{at}"


def faults(grants: Iterable[WireGrant]) -> Iterator[str]:
    """What is wrong with these as a whole, a line each."""
    handlers = [(grant.handler, grant.port) for grant in grants]
    for handler, port in sorted({each for each in handlers if handlers.count(each) > 1}):
        yield f"handler {handler} is named twice for port {port}: one grant names all that a handler may there"
    if len(handlers) > MOST_GRANTS:
        yield f"{len(handlers)} grants, at most {MOST_GRANTS} are expected"
    for grant in grants:
        for path in grant.paths:
            if fault := _path_fault(path):
                yield f"handler {grant.handler}: path {path} {fault}"
        if not grant.cgroup:
            yield f"handler {grant.handler}: cgroup is not named, expected a path below the root of cgroup2"
        elif _DOTS & set(grant.cgroup.split("/")):
            yield f"handler {grant.handler}: cgroup {grant.cgroup} has a segment of dots"


def _path_fault(path: str) -> str:
    if path.lower().startswith(CHANNEL):
        return "is the secure channel's, whose key is the agent's alone"
    return "" if _is_plain(path) else "has a segment of dots, which no request may have"


def _is_plain(path: str) -> bool:
    return _PATH.fullmatch(path) is not None and not _DOTS & set(path.split("/"))


def _covers(granted: str, path: str) -> bool:
    return path == granted or (granted.endswith("/") and path.startswith(granted))
