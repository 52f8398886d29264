# SPDX-License-Identifier: Apache-2.0
"""Owns on which line of a JSON document each of its keys stands. Pure; the document is known to be one."""

import json
import re

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]:\n]')


def key_lines(text: str) -> dict[tuple[str, ...], int]:
    """By the keys that lead there, the outermost first; counted from 1. What is in lists is not told apart."""
    found: dict[tuple[str, ...], int] = {}
    path: list[str] = []
    line, last, key = 1, "", ""
    for token in _TOKEN.finditer(text):
        match token[0]:
            case "\n":
                line += 1
            case "{" | "[":
                path.append(key)
                key = ""
            case "}" | "]":
                path.pop()
                key = ""
            case ":":
                key = last
                found.setdefault((*filter(None, path), key), line)
            case word:
                last = json.loads(word)
    return found
