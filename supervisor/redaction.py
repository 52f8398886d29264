# SPDX-License-Identifier: Apache-2.0
"""Owns what must never be written to a log, and takes it out of text; part of the log sink in every process that logs.

It knows the forms that secrets have (SAS, passwords, keys, hashes), and the texts registered while they are in use.
"""

import re
from collections import Counter
from collections.abc import Callable
from typing import Any

REMOVED = "[redacted]"
# A registered text shorter than this is taken out only where it stands alone, or each "a" of the log would go.
SHORT = 4

_QUERY = re.compile(r"\?[^\s\"'<>]+")
_SAS = re.compile(r"sig(?:=|%3d)|(?:[?&;]|\\u0026|%26)sv(?:=|%3d)", re.IGNORECASE)
_SIGNATURE = re.compile(r"(sig)(=|%3d)[^\s&\"'<>\\]+", re.IGNORECASE)
_PEM = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----|\Z)", re.DOTALL)
_ELEMENT = re.compile(
    r"((?:<|&lt;)[\w.:-]{0,60}password\b[^<>]{0,200}?(?:>|&gt;)).+?(?=</|&lt;/|\Z)", re.DOTALL | re.IGNORECASE
)
_NAMES = r"(?:password|passwd|passphrase|secret|token|accountkey|sharedaccesskey|sharedaccesssignature)"
# Quoted (with its end cut off, too), quoted within a quoted text, or bare.
_VALUE = r"(?:\"(?:[^\"\\]|\\.)*(?:\"|\\?\Z)|'(?:[^'\\]|\\.)*(?:'|\\?\Z)|\\\"[^\"]*(?:\"|\Z)|[^\s&;,]+)"
_ASSIGNED = re.compile(rf"({_NAMES})(\s{{0,8}}=\s{{0,8}}){_VALUE}", re.DOTALL | re.IGNORECASE)
_MEMBER = re.compile(rf"({_NAMES})(\\?[\"']\s{{0,8}}:\s{{0,8}}){_VALUE}", re.DOTALL | re.IGNORECASE)
_HASH = re.compile(r"\$(?:1|2[abxy]?|5|6|7|y|gy|sha1)\$[^\s:\"'<>]{4,}")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")
_USERINFO = re.compile(r"(//[^/\s:@]*:)[^/\s@]+(?=@)")


class Redactor:
    """Takes secrets out of text."""

    def __init__(self) -> None:
        self._registered: Counter[str] = Counter()
        self._pattern: re.Pattern[str] | None = None

    def register(self, secret: str) -> Callable[[], None]:
        """Take `secret` out of all that follows, in the forms in which it may be quoted, until the result is called."""
        forms = _forms(secret)
        self._registered.update(forms)
        self._compile()
        done: list[bool] = []

        def forget() -> None:
            if not done:
                done.append(True)
                self._registered.subtract(forms)
                self._registered += Counter()  # drops what is down to zero
                self._compile()

        return forget

    def clean(self, text: str) -> str:
        """`text` without secrets. Takes time in proportion to its length."""
        if self._pattern is not None:
            text = self._pattern.sub(REMOVED, text)
        text = _PEM.sub(REMOVED, text)
        text = _ELEMENT.sub(rf"\1{REMOVED}", text)
        text = _QUERY.sub(_clean_query, text)
        text = _SIGNATURE.sub(rf"\1\2{REMOVED}", text)
        text = _MEMBER.sub(rf"\1\2{REMOVED}", text)
        text = _ASSIGNED.sub(rf"\1\2{REMOVED}", text)
        text = _USERINFO.sub(rf"\1{REMOVED}", text)
        return _HASH.sub(REMOVED, text)

    def _compile(self) -> None:
        # The longest first: of two that begin alike, the shorter would leave the other's end standing.
        texts = sorted(self._registered, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(_literal, texts))) if texts else None


def cleaned(data: Any, clean: Callable[[str], str]) -> Any:
    """Plain data (what JSON has) with every text in it cleaned by `clean`; names of members stay."""
    match data:
        case str():
            return clean(data)
        case dict():
            return {name: cleaned(each, clean) for name, each in data.items()}
        case list() | tuple():
            return [cleaned(each, clean) for each in data]
    return data


def _clean_query(query: re.Match[str]) -> str:
    return f"?{REMOVED}" if _SAS.search(query[0]) else query[0]


def _literal(text: str) -> str:
    return rf"(?<!\w){re.escape(text)}(?!\w)" if len(text) < SHORT else re.escape(text)


def _forms(secret: str) -> frozenset[str]:
    """The text itself and as XML, URL, Python or JSON would show it."""
    escaped = secret.encode("unicode_escape").decode("ascii")
    xml = secret.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    full = xml.replace('"', "&quot;").replace("'", "&apos;")
    url = "".join(
        chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in secret.encode("utf-8", "surrogatepass")
    )
    return frozenset({secret, escaped, escaped.replace('"', '\\"'), escaped.replace("'", "\\'"), xml, full, url}) - {""}
