# SPDX-License-Identifier: Apache-2.0
"""Owns the reading and editing of sshd_config text as sshd reads it: the first value of a keyword counts, Match limits.

Pure but for `global_values`, which reads the files that Include names. Runs in the sshd committer; writes nothing.
"""

import fnmatch
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import msgspec

from workers.committers import atomic_file

DEEPEST = 16
# Since OpenSSH 8.7 these are two names of one option.
SAME = {"challengeresponseauthentication": "kbdinteractiveauthentication"}
# A `#` ends the value only after a blank; the carriage return of a CRLF is a blank, too.
_LINE = re.compile(r"\s*([A-Za-z0-9]+)(?:\s*=\s*|\s+)(.*?)\s*(?:\s#.*)?\s*")


class Setting(msgspec.Struct, frozen=True):
    """The value of a keyword outside every Match block, lower case, and the file that sets it first."""

    value: str
    source: str


def keyword_of(line: str) -> tuple[str, str] | None:
    """(keyword in lower case under its present name, value without quotes), or None for blank lines and comments."""
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    keyword = match[1].lower()
    return SAME.get(keyword, keyword), match[2].strip('"')


def global_values(root: Path, config: str, keywords: Sequence[str]) -> dict[str, Setting]:
    """What sshd takes for each of `keywords` outside Match blocks, in the file `config` and those it includes."""
    wanted = {SAME.get(keyword.lower(), keyword.lower()) for keyword in keywords}
    values: dict[str, Setting] = {}
    for keyword, value, source in _global_pairs(root, config, DEEPEST):
        if keyword in wanted:
            values.setdefault(keyword, Setting(value.lower(), source))
    return values


def _global_pairs(root: Path, config: str, depth: int) -> Iterator[tuple[str, str, str]]:
    """(keyword, value, file) outside Match blocks, in sshd's order; a Match ends with the file that it stands in."""
    found = atomic_file.look((root / config.lstrip("/")).resolve())  # sshd follows links, too
    if found is None or depth == 0:
        return
    in_match = False
    for keyword, value in filter(None, map(keyword_of, found.content.decode("utf-8", "replace").split("\n"))):
        if keyword == "match":
            in_match = value.lower() != "all"
        elif keyword == "include" and not in_match:
            for path in _included(root, value):
                yield from _global_pairs(root, f"/{path.relative_to(root)}", depth - 1)
        elif not in_match:
            yield keyword, value, config


def _included(root: Path, value: str) -> list[Path]:
    return [path for pattern in _patterns(value) for path in sorted(root.glob(pattern.lstrip("/")))]


def includes(text: str, path: str, keywords: Sequence[str]) -> bool:
    """Whether `text` includes the file `path` in time: before any Match, and before it sets one of `keywords`."""
    own = {SAME.get(keyword.lower(), keyword.lower()) for keyword in keywords}
    for keyword, value in filter(None, map(keyword_of, text.split("\n"))):
        if keyword == "include" and any(_matches(path, pattern) for pattern in _patterns(value)):
            return True
        if keyword == "match" or keyword in own:
            return False
    return False


def with_option(text: str, keyword: str, value: str) -> str:
    """`text` with the first line of `keyword` outside Match blocks replaced, or a new one before the first Match. Every
    other line stays as it is, its line end included."""
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    end = "\r" if lines and all(line.endswith("\r") for line in lines) else ""
    name = SAME.get(keyword.lower(), keyword.lower())
    in_match = False
    first_match = None
    for number, line in enumerate(lines):
        pair = keyword_of(line)
        if pair is None:
            continue
        if pair[0] == "match":
            in_match = pair[1].lower() != "all"
            first_match = number if first_match is None else first_match
        elif pair[0] == name and not in_match:
            lines[number] = f"{line.split()[0].split('=')[0]} {value}{end}"
            break
    else:
        lines.insert(len(lines) if first_match is None else first_match, f"{keyword} {value}{end}")
    return "".join(f"{line}\n" for line in lines)


def _patterns(value: str) -> list[str]:
    """Include's operands; a relative one is below /etc/ssh, as sshd has it."""
    words = [word.strip('"') for word in value.split()]
    return [word if word.startswith("/") else f"/etc/ssh/{word}" for word in words]


def _matches(path: str, pattern: str) -> bool:
    """glob(7): a star does not cross a slash."""
    parts, patterns = PurePosixPath(path).parts, PurePosixPath(pattern).parts
    return len(parts) == len(patterns) and all(map(fnmatch.fnmatchcase, parts, patterns))
