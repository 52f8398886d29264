# SPDX-License-Identifier: Apache-2.0
"""Owns the reading of /etc/waagent.conf (config-cli.md 1.1): text in, frozen Config and findings out.

Runs in the supervisor, once, at its start. A wrong value never stops the agent, a file that is no text does.
"""

import os
import re
import stat
from typing import Any, Literal, TypeVar, cast

import msgspec

from ipc.errors import ConfigError
from supervisor.options import BY_NAME, DEAD, IN_EFFECT, TABLE, Option

T = TypeVar("T")
Value = bool | int | str

MAX_BYTES = 1 << 20
SHOWN_CHARACTERS = 40
SHOWN_UNKNOWN = 20


class Finding(msgspec.Struct, frozen=True):
    """Something worth a line in the log: where (line 1 is the first), what, and for a wrong value what was taken."""

    level: Literal["warning", "info"]
    line: int
    problem: str
    taken: str = ""

    def __str__(self) -> str:
        return f"line {self.line}: {self.problem}" + (f"; taken: {self.taken}" if self.taken else "")


class Config(msgspec.Struct, frozen=True):
    """The settings. `config[LIB_DIR]` is an option's value: the file's if usable, else the default."""

    values: dict[str, Value] = {}

    def __getitem__(self, option: Option[T]) -> T:
        if option.name in self.values:
            return cast("T", self.values[option.name])
        if option.follows:
            return cast("T", self._of(option.follows))
        return option.default

    def effective(self) -> dict[str, str]:
        """Every option's value as it could stand in the file, sorted by name."""
        return {name: _shown(self._of(name)) for name in sorted(BY_NAME)}

    def _of(self, name: str) -> Value | None:
        option: Option[Any] = BY_NAME[name]
        value: Value | None = self[option]
        return value


class Parsed(msgspec.Struct, frozen=True):
    """What `parse` returns: the settings, and the findings in the order of their lines."""

    config: Config
    findings: tuple[Finding, ...]


def load(path: str | os.PathLike[str]) -> Parsed:
    """The settings in the file at `path`; ConfigError when it is absent, empty, too large, no text, or no file."""
    return parse_bytes(str(path), _read(path))


def parse_bytes(path: str, content: bytes) -> Parsed:
    """The settings in `content`, that of the file at `path`; ConfigError when it is no text."""
    if content.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise ConfigError(path, "starts with a byte order mark; save it as plain UTF-8")
    if b"\0" in content:
        raise ConfigError(path, f"is not text: there is a zero byte in line {_line_of(content, content.index(0))}")
    try:
        return parse(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        where = f"byte 0x{content[error.start]:02x} in line {_line_of(content, error.start)}"
        raise ConfigError(path, f"is not UTF-8 text: {where}") from None


def parse(text: str) -> Parsed:
    """The settings in `text`, by the rules of config-cli.md 1.1. Pure; takes any text."""
    entries, findings = _entries(text)
    values: dict[str, Value] = {}
    for option in TABLE:
        number, raw = entries.get(option.name, (0, "None"))
        if raw == "None":
            continue
        try:
            values[option.name] = _value(option, raw)
        except ValueError as error:
            # No equals sign: the log would take the value of DeleteRootPassword for one.
            problem = f"{option.name} is {_brief(raw)}, not {error}"
            findings.append(Finding("warning", number, problem, _default_text(option)))
    findings += _without_effect(entries) + _unknown(entries)
    return Parsed(Config(values), tuple(sorted(findings, key=lambda finding: finding.line)))


def _read(path: str | os.PathLike[str]) -> bytes:
    try:
        # Not blocking: a FIFO in the file's place must not hold the agent up.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise ConfigError(str(path), "there is no such file, and the agent does not start without one") from None
    except OSError as error:
        raise ConfigError(str(path), f"can't be opened: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ConfigError(str(path), "is not a regular file")
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(str(path), f"can't be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if not content:
        raise ConfigError(str(path), "is empty, and the agent does not start without settings")
    if len(content) > MAX_BYTES:
        raise ConfigError(str(path), f"is larger than {MAX_BYTES} bytes")
    return content


def _entries(text: str) -> tuple[dict[str, tuple[int, str]], list[Finding]]:
    """Key to (line, value as text), the last of several; and a note on known keys that stand more than once."""
    entries: dict[str, tuple[int, str]] = {}
    again: dict[str, int] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("#") or "=" not in line:
            continue
        key, _, rest = line.partition("=")
        key = key.strip()
        if key in entries and key in BY_NAME:
            again[key] = number
        # Both kinds at once: with CR LF the quote is not the last character of the line.
        entries[key] = (number, rest.partition("#")[0].strip('" \t\r\f\v').strip())
    notes = [Finding("info", number, f"{key} is set more than once: this line counts") for key, number in again.items()]
    return entries, notes


def _value(option: Option[Any], raw: str) -> Value:
    """The value that `raw` stands for; ValueError says what it should have been."""
    match option.kind:
        case "switch":
            return _switch(raw)
        case "integer":
            return _integer(option, raw)
        case "path":
            if raw in option.words or raw.startswith("/"):
                return raw
            raise ValueError(" or ".join((*option.words, "an absolute path")))
        case _:
            return _text(option, raw)


def _switch(raw: str) -> bool:
    if raw.lower() not in {"y", "n"}:
        raise ValueError("y or n")
    return raw.lower() == "y"


def _integer(option: Option[Any], raw: str) -> int:
    # Longer than any limit in the table: int() of a megabyte of digits is not worth its time.
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", raw):
        raise ValueError("a whole number")
    if not option.low <= int(raw) <= option.high:
        raise ValueError(f"between {option.low} and {option.high}")
    return int(raw)


def _text(option: Option[Any], raw: str) -> str:
    if option.words and raw not in option.words:
        raise ValueError("one of " + ", ".join(option.words))
    if option.pattern and not re.fullmatch(option.pattern, raw):
        raise ValueError("a usable name")
    return raw


def _without_effect(entries: dict[str, tuple[int, str]]) -> list[Finding]:
    """One note for all options of parts that come later: nobody should rely on what is not there."""
    keys = [key for key in entries if key in BY_NAME and key not in IN_EFFECT]
    if not keys:
        return []
    return [Finding("info", entries[keys[0]][0], f"without effect in this version: {', '.join(keys)}")]


def _unknown(entries: dict[str, tuple[int, str]]) -> list[Finding]:
    """One note for all keys that nobody reads, so that a file full of them costs one line."""
    keys = [key for key in entries if key not in BY_NAME]
    if not keys:
        return []
    shown = [f"{_brief(key)} ({DEAD[key]})" if key in DEAD else _brief(key) for key in keys[:SHOWN_UNKNOWN]]
    more = f" and {len(keys) - SHOWN_UNKNOWN} more" if len(keys) > SHOWN_UNKNOWN else ""
    return [Finding("info", entries[keys[0]][0], f"not options of this agent: {', '.join(shown)}{more}")]


def _default_text(option: Option[Any]) -> str:
    return f"{option.follows}'s value" if option.follows else f"the default, {_shown(option.default)}"


def _shown(value: Value | None) -> str:
    if isinstance(value, bool):
        return "y" if value else "n"
    return str(value)


def _brief(text: str) -> str:
    return repr(text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + "...")


def _line_of(content: bytes, offset: int) -> int:
    return content.count(b"\n", 0, offset) + 1
