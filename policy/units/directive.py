# SPDX-License-Identifier: Apache-2.0
"""Owns the text of a unit: directives in sections, a comment before those that hold by no mechanism of systemd's."""

import textwrap
from collections.abc import Iterable, Mapping

import msgspec

_WIDTH = 100


class Directive(msgspec.Struct, frozen=True):
    """`name`=`value`; `by` says which mechanism of ours has that effect, where it is not systemd's own."""

    name: str
    value: str
    by: str = ""


class Remark(msgspec.Struct, frozen=True):
    """What the profile says and no directive can."""

    text: str


Line = Directive | Remark


def yes(name: str, by: str = "") -> Directive:
    """A directive that is switched on."""
    return Directive(name, "yes", by)


def listed(name: str, values: Iterable[str], by: str = "") -> Directive:
    """A directive with a list of words; an empty list means none of them."""
    return Directive(name, " ".join(values), by)


def text_of(head: Iterable[str], sections: Mapping[str, Iterable[Line]]) -> str:
    """The whole file: `head` as its comment, then each section."""
    lines = [part for paragraph in head for part in _comment(paragraph)]
    for title, content in sections.items():
        lines += ["", f"[{title}]"]
        for line in content:
            lines += _comment(line.text if isinstance(line, Remark) else line.by)
            lines += _assignment(line) if isinstance(line, Directive) else []
    return "\n".join(lines) + "\n"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False)


def _assignment(directive: Directive) -> list[str]:
    """One line, or a long list over several, as a shell would continue it."""
    # A percent sign begins a specifier, but for the one value that is a percentage.
    value = directive.value if directive.name == "CPUQuota" else directive.value.replace("%", "%%")
    text = f"{directive.name}={value}"
    wrapped = textwrap.wrap(text, _WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    return [f"{line} \\" for line in wrapped[:-1]] + wrapped[-1:]
