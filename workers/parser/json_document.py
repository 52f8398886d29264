# SPDX-License-Identifier: Apache-2.0
"""Owns JSON: bytes to the fields of one typed structure; runs in the parser.

What a problem's text says is a place and a rule, never the document's content: a document may hold a key.
"""

import re
from typing import Any, TypeVar

import msgspec

from ipc.errors import InputError
from workers.parser.bounds import MAX_DOCUMENT_BYTES

T = TypeVar("T")

MAX_DEPTH = 64
# Counted by their brackets, those in texts too: an empty object takes thirty times its two bytes of memory.
MAX_NODES = 100_000
SCHEME = "Azure-HMAC-SHA256"
_GUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")
UTF8_MARK = b"\xef\xbb\xbf"
_MOST_INCARNATIONS = 2**63 - 1


def decode(document: bytes, kind: type[T], most_bytes: int = MAX_DOCUMENT_BYTES) -> T:
    """`document` as a `kind`; fields that `kind` does not have are passed over. Raises InputError."""
    if len(document) > most_bytes:
        raise InputError("document", f"is {len(document)} bytes long, more than the {most_bytes} allowed")
    if document.count(b"{") + document.count(b"[") > MAX_NODES:
        raise InputError("document", f"has more than {MAX_NODES} objects and lists")
    try:
        return msgspec.json.decode(document.removeprefix(UTF8_MARK), type=kind)
    except msgspec.ValidationError as error:
        raise _misfit(error) from None
    except UnicodeDecodeError:
        raise InputError("document", "is not UTF-8") from None
    except RecursionError:
        raise InputError("document", "is nested too deeply") from None
    except (msgspec.DecodeError, ValueError) as error:
        raise InputError("document", f"is no JSON: {error}") from None


def typed(tree: Any, kind: type[T]) -> T:
    """What was decoded already, as a `kind`. Raises InputError."""
    try:
        return msgspec.convert(tree, kind)
    except msgspec.ValidationError as error:
        raise _misfit(error) from None


def lowered(tree: Any, depth: int = 0) -> Any:
    """`tree` with all keys in lower case, at every depth; of two that differ in case alone the last counts."""
    if depth > MAX_DEPTH:
        raise InputError("document", "is nested too deeply")
    if isinstance(tree, list):
        return [lowered(each, depth + 1) for each in tree]
    if not isinstance(tree, dict):
        return tree
    return {key.lower(): lowered(value, depth + 1) for key, value in tree.items()}


def _misfit(error: msgspec.ValidationError) -> InputError:
    problem, _, place = str(error).partition(" - at `$")
    return InputError(place.lstrip(".").rstrip("`") or "document", problem)


def guid(text: str, where: str) -> str:
    """`text`, which has to be a GUID."""
    if not _GUID.fullmatch(text):
        raise InputError(where, "is no GUID")
    return text


def incarnation(number: int | None, where: str) -> int | None:
    """`number`, which has to be a count."""
    if number is not None and not 0 <= number <= _MOST_INCARNATIONS:
        raise InputError(where, "is no count")
    return number


def check_scheme(text: str) -> None:
    """There is one way to sign."""
    if text != SCHEME:
        raise InputError("authorizationScheme", f"is not {SCHEME}")
