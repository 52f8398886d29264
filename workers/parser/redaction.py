# SPDX-License-Identifier: Apache-2.0
"""Owns copies of documents without their secrets, for people to read; runs in the parser.

Every URL loses its query, every protectedSettings its value, however XML or JSON has escaped them. The copy is then
looked over as a reader would see it: where a secret may still be in it, one sentence takes the place of all of it.
"""

import re
from typing import Any

import msgspec

from ipc.errors import InputError
from workers.parser import xml
from workers.parser.bounds import MAX_EXTENSIONS_BYTES
from workers.parser.json_document import MAX_DEPTH, decode

MARK = "***REDACTED***"
WITHHELD = b"This document is not kept: it could not be shown that no secret would be left in its copy.\n"
SETTINGS = ("RuntimeSettings", "ExtensionRuntimeSettings")
# Less than this is no secret, and would be found everywhere.
LEAST_SECRET = 4
# How many comparisons, secrets times characters, are worth while.
MOST_WORK = 1 << 28

# Whole, query and all, so that no text is gone over twice.
_URL = re.compile(r"https?:(?:\\?/){2}(?:[^\s\"'<>\\]+|\\u[0-9a-f]{4}|\\/)*", re.IGNORECASE)
_TOKEN = re.compile(r"(?:^|[&;]|\\u0026)(?:sv|st|se|sr|sp|sip|spr|sig)=", re.IGNORECASE)
_ESCAPED = re.compile(
    r"&(?:#x([0-9a-f]{1,6})|#([0-9]{1,7})|(amp|lt|gt|quot|apos));|\\u([0-9a-f]{4})|\\([/\"\\])|%([0-9a-f]{2})",
    re.IGNORECASE,
)
_NAMED = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_SIGNATURE = re.compile(r"(?<![a-z])sig=", re.IGNORECASE)
_VALUE = re.compile(r"((?<![a-z])sig(?:=|%3d))[^\s&\"'<>\\]+", re.IGNORECASE)
_ROUNDS = 3


def without_tokens(text: str) -> str:
    """`text` with `<redacted>` for each SAS token in it; for the signature alone where its URL is broken off."""

    def replaced(url: re.Match[str]) -> str:
        place, _, query = url.group().partition("?")
        return f"{place}?<redacted>" if _TOKEN.search(query) else url.group()

    return _VALUE.sub(r"\1<redacted>", _URL.sub(replaced, text))


def of_xml(source: bytes, root: xml.Element, secrets: set[str]) -> bytes:
    """A copy of `source`, whose tree is `root`. `secrets` are known ones that may not be in it; more are found here."""
    known, pieces, done = set(secrets), [], 0
    for element in root.descendants():
        content = xml.content_start(source, element) if element.name in SETTINGS and element.start >= done else None
        if content is not None:
            settings = _settings(element.text or "", known)
            pieces += [_without_queries(source[done:content].decode(), known), _for_xml(settings)]
            done = element.end
    pieces.append(_without_queries(source[done:].decode(), known))
    return _proven("".join(pieces), known)


def of_json(tree: Any, secrets: set[str]) -> bytes:
    """A copy of what was decoded to `tree`, indented."""
    known = set(secrets)
    return _proven(msgspec.json.format(msgspec.json.encode(_redacted(tree, known)), indent=2).decode(), known)


def _settings(text: str, known: set[str]) -> str:
    """The JSON text of an extension's settings, redacted. What is none goes as a whole."""
    try:
        return msgspec.json.encode(_redacted(decode(text.encode(), Any, MAX_EXTENSIONS_BYTES), known)).decode()
    except InputError:
        return MARK


def _redacted(tree: Any, known: set[str], depth: int = 0) -> Any:
    if depth > MAX_DEPTH:
        raise InputError("document", "is nested too deeply")
    if isinstance(tree, str):
        return _without_queries(tree, known)
    if isinstance(tree, list):
        return [_redacted(each, known, depth + 1) for each in tree]
    if not isinstance(tree, dict):
        return tree
    found = {}
    for key, value in tree.items():
        is_secret = key.lower() == "protectedsettings" and value is not None
        if is_secret and isinstance(value, str):
            known.add(value)
        found[_without_queries(key, known)] = MARK if is_secret else _redacted(value, known, depth + 1)
    return found


def _without_queries(text: str, known: set[str]) -> str:
    def replaced(url: re.Match[str]) -> str:
        place, mark, query = url.group().partition("?")
        known.add(query)
        return f"{place}?{MARK}" if mark else place

    return _URL.sub(replaced, text)


def _for_xml(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _proven(copy: str, known: set[str]) -> bytes:
    """`copy`, if none of the known secrets is in it, nor what looks like a signature; else the sentence."""
    seen = _unescaped(copy)
    secrets = {_unescaped(secret) for secret in known if len(secret) >= LEAST_SECRET}
    content = copy.encode()
    if len(content) > MAX_EXTENSIONS_BYTES or len(secrets) * len(seen) > MOST_WORK or _SIGNATURE.search(seen):
        return WITHHELD
    return WITHHELD if any(secret in seen for secret in secrets) else content


def _unescaped(text: str) -> str:
    """`text` as whoever reads it sees it, behind XML, JSON and URL escapes within one another."""
    for _ in range(_ROUNDS):
        plain = _ESCAPED.sub(_character, text)
        if plain == text:
            break
        text = plain
    return text


def _character(escaped: re.Match[str]) -> str:
    hexadecimal, decimal, named, unicode, plain, percent = escaped.groups()
    if named:
        return _NAMED[named.lower()]
    if plain:
        return plain
    number = int(decimal) if decimal else int(hexadecimal or unicode or percent, 16)
    return chr(number) if number < 0x110000 else ""
