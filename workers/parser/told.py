# SPDX-License-Identifier: Apache-2.0
"""Owns what an extension's own texts become before the host is told of them: without SAS tokens, cut to a length.

Runs in the parser, for status and heartbeat files alike.
"""

from typing import Any

import msgspec

from ipc.errors import InputError
from workers.parser import redaction

TRUNCATED = " ... [TRUNCATED]"
MAX_FIELD = 10 * 1024
MAX_TEXT = 1024
# More than this is no number to every reader of JSON.
MOST_NUMBER = 2**53
# Of a text that is longer than it may be, this many times that is looked over for tokens before it is cut.
_LOOKED_AT = 4


def text(value: Any, most: int = MAX_FIELD) -> str:
    """`value` as text that may be told, in at most so many characters; what was cut says so. What is no text is written
    as in JSON, null is empty."""
    if value is None:
        return ""
    written = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    seen = written[: _LOOKED_AT * most]
    plain = redaction.without_tokens(seen)
    if len(plain) <= most and len(seen) == len(written):
        return plain
    return plain[: most - len(TRUNCATED)] + TRUNCATED


def number(value: Any) -> int:
    """A code: 0 for what is none."""
    if isinstance(value, str):
        sign, digits = (-1, value[1:]) if value[:1] == "-" else (1, value)
        value = sign * int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < 18 else 0
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and abs(value) <= MOST_NUMBER else 0


def formatted(found: Any, where: str, most: int = MAX_FIELD) -> tuple[str, str]:
    """Language and message of a formattedMessage; empty where there is none. InputError for one that lacks either."""
    if found is None:
        return "", ""
    if not isinstance(found, dict):
        raise InputError(where, "is no object")
    for key in ("lang", "message"):
        if key not in found:
            raise InputError(f"{where}.{key}", "is missing")
    return text(found["lang"], MAX_TEXT), text(found["message"], most)
