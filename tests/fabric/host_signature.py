# SPDX-License-Identifier: Apache-2.0
"""Owns the host's own computation of a request's signature (secure-channel.md, Signature), from what arrived.

Runs in test processes. It shares no code with the agent: two readings of one specification have to agree.
"""

import hashlib
import hmac
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime

AUTHORIZATION = "x-ms-azure-host-authorization"
SCHEME = "Azure-HMAC-SHA256"


def signature(key: str, method: str, target: str, headers: tuple[tuple[str, str], ...], body: bytes) -> str:
    """The signature with `key`, in hex both."""
    return hmac.new(bytes.fromhex(key), signed_bytes(method, target, headers, body), hashlib.sha256).hexdigest()


def signed_bytes(method: str, target: str, headers: tuple[tuple[str, str], ...], body: bytes) -> bytes:
    """What is signed of a request."""
    path, _, query = target.partition("?")
    text = method.encode() + b"\n" + body + b"\n"
    for name, value in sorted((name.lower(), value) for name, value in headers):
        if name != AUTHORIZATION:
            text += f"{name}:{value.strip()}\n".encode()
    return text + f"{path}\n{_query(query)}".encode()


def _query(query: str) -> str:
    by_text: dict[str, str] = {}
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if name:
            by_text[name.lower() + value] = f"{name.lower()}={value}" if value else name.lower()
    return "&".join(by_text[text] for text in sorted(by_text))


def written(wall: float) -> str:
    """Wall seconds since 1970 as a date of HTTP."""
    return format_datetime(datetime.fromtimestamp(wall, UTC), usegmt=True)


def wall_of(date: str | None) -> float | None:
    """The other way round, strictly; None for anything else."""
    try:
        wall = parsedate_to_datetime(date or "").timestamp()
    except ValueError:
        return None
    return wall if written(wall) == date else None
