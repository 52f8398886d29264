# SPDX-License-Identifier: Apache-2.0
"""Owns XML: bytes to a small tree of elements, by expat under limits; runs in the parser.

No document type, no entities of its own, no encoding but UTF-8 and UTF-16 with a byte order mark. What a problem's
text says is a place and a rule, never the document's content: documents hold passwords.
"""

import pyexpat
import re
from collections.abc import Iterator

from ipc.errors import InputError
from workers.parser.bounds import MAX_DOCUMENT_BYTES

MAX_ELEMENTS = 8192
MAX_DEPTH = 32
MAX_ATTRIBUTES = 64
MAX_NAME = 1024

_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_START_TAG = re.compile(rb"<(?:\"[^\"]*\"|'[^']*'|[^\"'>])*>")
_DECLARED_UTF16 = re.compile(rb"^(<\?xml\s[^>]{0,200}?encoding\s*=\s*[\"'])utf-16(?:le|be)?(?=[\"'])", re.IGNORECASE)


class Element:
    """One element. `name` is "namespace name" (or the name as written, where namespaces are not processed).

    `text` is the first run of text directly below it, CDATA not counted (wire-protocol.md 2), None if there is none.
    `start` is the byte of the source where it opens, `end` that of its end tag (or behind it, for `<a/>`)."""

    __slots__ = ("attributes", "children", "end", "name", "start", "text")

    def __init__(self, name: str, attributes: dict[str, str], start: int) -> None:
        self.name = name
        self.attributes = attributes
        self.start = self.end = start
        self.text: str | None = None
        self.children: list[Element] = []

    def descendants(self) -> Iterator["Element"]:
        """Everything below this element, in document order."""
        waiting = self.children[::-1]
        while waiting:
            element = waiting.pop()
            yield element
            waiting.extend(reversed(element.children))

    def below(self, name: str) -> Iterator["Element"]:
        """Children called `name`, directly below, in document order."""
        return (element for element in self.children if element.name == name)

    def all(self, name: str) -> Iterator["Element"]:
        """Descendants called `name`, anywhere below, in document order."""
        return (element for element in self.descendants() if element.name == name)

    def first(self, name: str) -> "Element | None":
        """The first descendant called `name`, anywhere below."""
        return next(self.all(name), None)

    def text_of(self, name: str) -> str | None:
        """The text of the first descendant called `name`; None when that is missing or empty."""
        found = self.first(name)
        return None if found is None else found.text


def as_utf8(document: bytes, most_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
    """The document in UTF-8 without a byte order mark, its declaration in agreement. Raises InputError."""
    if not document:
        raise InputError("document", "is empty")
    if len(document) > most_bytes:
        raise InputError("document", f"is {len(document)} bytes long, more than the {most_bytes} allowed")
    encoding = "utf-16" if document.startswith(_UTF16_MARKS) else "utf-8"
    try:
        text = document.removeprefix(_UTF8_MARK).decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(f"byte {error.start}", f"is not {encoding.upper()}") from None
    if "\0" in text:
        # Expat would take it for UTF-16, whatever it is told: the tree and these bytes would be two documents.
        problem = "is NUL, which no XML has (UTF-16 needs its byte order mark)"
        raise InputError(f"character {text.index(chr(0))}", problem)
    return _DECLARED_UTF16.sub(rb"\1utf-8", text.encode())


def content_start(source: bytes, element: Element) -> int | None:
    """The byte of `source` where the content of `element` begins, None for `<a/>`, which has none."""
    tag = _START_TAG.match(source, element.start)
    if tag is None:
        raise InputError("document", "an element is not where it was read: no copy without its content can be made")
    return None if tag.group().endswith(b"/>") else tag.end()


def parse(source: bytes, *, namespaces: bool, most_elements: int = MAX_ELEMENTS) -> Element:
    """The root of `source`, which is what `as_utf8` gives. Raises InputError with line and column."""
    builder = _Builder(most_elements, namespaces=namespaces)
    return builder.build(source)


class _Builder:
    """Expat's callbacks. An exception that one of them raises ends the parsing and comes out of `build`."""

    def __init__(self, most_elements: int, *, namespaces: bool) -> None:
        self._most_elements = most_elements
        self._expat = pyexpat.ParserCreate("utf-8", " " if namespaces else None)
        self._document = Element("", {}, 0)
        self._open = [self._document]
        self._count = 0
        self._text: list[str] | None = None
        self._in_cdata = False
        self._expat.buffer_text = True
        self._expat.StartElementHandler = self._start
        self._expat.EndElementHandler = self._end
        self._expat.CharacterDataHandler = self._characters
        self._expat.StartCdataSectionHandler = self._start_cdata
        self._expat.EndCdataSectionHandler = self._end_cdata
        self._expat.CommentHandler = self._interrupt
        self._expat.ProcessingInstructionHandler = self._interrupt
        self._expat.XmlDeclHandler = self._declaration
        self._expat.StartDoctypeDeclHandler = self._doctype

    def build(self, source: bytes) -> Element:
        try:
            self._expat.Parse(source, True)
        except pyexpat.ExpatError as error:
            raise self._problem(pyexpat.ErrorString(error.code) or "is not XML") from None
        return self._document.children[0]

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._finish_text()
        self._count += 1
        if self._count > self._most_elements:
            raise self._problem(f"more than {self._most_elements} elements")
        if len(self._open) > MAX_DEPTH:
            raise self._problem(f"elements nested deeper than {MAX_DEPTH}")
        if len(attributes) > MAX_ATTRIBUTES:
            raise self._problem(f"more than {MAX_ATTRIBUTES} attributes in an element")
        if len(name) > MAX_NAME:
            raise self._problem(f"a name of more than {MAX_NAME} characters")
        element = Element(name, attributes, self._expat.CurrentByteIndex)
        self._open[-1].children.append(element)
        self._open.append(element)

    def _end(self, _name: str) -> None:
        self._finish_text()
        self._open.pop().end = self._expat.CurrentByteIndex

    def _characters(self, text: str) -> None:
        if self._in_cdata:
            return
        if self._text is None:
            self._text = []
        self._text.append(text)

    def _start_cdata(self) -> None:
        self._finish_text()
        self._in_cdata = True

    def _end_cdata(self) -> None:
        self._in_cdata = False

    def _interrupt(self, *_content: str) -> None:
        """A comment or processing instruction ends a run of text and is otherwise nothing."""
        self._finish_text()

    def _finish_text(self) -> None:
        if self._text is not None and self._open[-1].text is None:
            self._open[-1].text = "".join(self._text)
        self._text = None

    def _declaration(self, _version: str, encoding: str | None, _standalone: int) -> None:
        if encoding is not None and encoding.lower() not in ("utf-8", "utf8", "us-ascii"):
            raise self._problem("declares an encoding other than UTF-8 or UTF-16")

    def _doctype(self, *_declaration: object) -> None:
        raise self._problem("has a document type declaration, which is not allowed")

    def _problem(self, problem: str) -> InputError:
        line, column = self._expat.CurrentLineNumber, self._expat.CurrentColumnNumber + 1
        return InputError(f"line {line}, column {column}", problem)
