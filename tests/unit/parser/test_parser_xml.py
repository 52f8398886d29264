# SPDX-License-Identifier: Apache-2.0
"""The tree builder: the reading rules of wire-protocol.md 2, and every limit."""

import pytest

from ipc.errors import InputError
from workers.parser import bounds, xml


def parse(text: str | bytes) -> xml.Element:
    return xml.parse(xml.as_utf8(text.encode() if isinstance(text, str) else text), namespaces=False)


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ("<a>one</a>", "one"),
        ("<a>on&amp;&#x65;</a>", "on&e"),
        ("<a>one<!-- c -->two</a>", "one"),
        ("<a>one<?p?>two</a>", "one"),
        ("<a>one<b/>two</a>", "one"),
        ("<a><b>x</b>two</a>", "two"),
        ("<a><![CDATA[one]]></a>", None),
        ("<a>one<![CDATA[two]]>three</a>", "one"),
        ("<a></a>", None),
        ("<a/>", None),
        ("<a>" + "x" * 100_000 + "</a>", "x" * 100_000),
    ],
)
def test_text_is_the_first_run_of_text(document: str, text: str | None) -> None:
    assert parse(document).text == text


def test_elements_are_found_anywhere_below_in_document_order() -> None:
    root = parse("<r><x><n>1</n></x><n>2</n><y a='b'><z><n/></z></y></r>")
    assert [found.text for found in root.all("n")] == ["1", "2", None]
    assert root.text_of("n") == "1"
    assert root.first("r") is None
    assert root.text_of("missing") is None
    assert [found.attributes for found in root.all("y")] == [{"a": "b"}]


@pytest.mark.parametrize(
    "document",
    [
        "<?xml version='1.0' encoding='utf-16'?><a>ü</a>".encode("utf-16"),
        "\ufeff<?xml version='1.0' encoding='UTF-16'?><a>ü</a>".encode("utf-16-be"),
        b"\xef\xbb\xbf<?xml version='1.0' encoding='utf-8'?><a>\xc3\xbc</a>",
        b"<?xml version='1.0' encoding='utf-16'?><a>\xc3\xbc</a>",
    ],
)
def test_utf8_and_utf16_are_read(document: bytes) -> None:
    assert parse(document).text == "ü"


def test_a_text_of_many_lines_is_one() -> None:
    """Expat hands it over in pieces."""
    text = "a line of text\n" * 2000
    assert parse(b"<a>" + text.encode() + b"</a>").text == text


@pytest.mark.parametrize(
    ("document", "where", "problem"),
    [
        (b"", "document", "is empty"),
        (b"<a>" + b"x" * bounds.MAX_DOCUMENT_BYTES, "document", "more than the"),
        (b"<a>\xff</a>", "byte 3", "is not UTF-8"),
        (b"\xff\xfe<\0a", "byte 4", "is not UTF-16"),
        (b"\0\0\0<", "character 0", "is NUL"),
        ("<a>ü</a>".encode("utf-16-le"), "byte 6", "is not UTF-8"),
        # Valid UTF-8, and expat would read it as UTF-16: what takes the password out of it would find nothing there.
        ("<a>u</a>".encode("utf-16-le"), "character 1", "needs its byte order mark"),
        ("<a>u</a>".encode("utf-16-be"), "character 0", "needs its byte order mark"),
        (b"no xml", "line 1, column 1", "syntax error"),
        (b"<a>\n  <b></a>", "line 2, column 8", "mismatched tag"),
        (b"<a>", "line 1, column 4", "no element found"),
        (b"<a/><b/>", "line 1, column 5", "junk after document element"),
        (b"<?xml version='1.0' encoding='latin-1'?><a/>", "line 1, column 1", "an encoding other than"),
        (b"<!DOCTYPE a><a/>", "line 1, column 12", "document type declaration"),
        (b"<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>", "line 1, column 40", "document type declaration"),
        (b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>", "line 1, column 13", "document type declaration"),
        (b"<a>&b;</a>", "line 1, column 4", "undefined entity"),
        (b"<a>" * 33, "line 1, column 97", "nested deeper than 32"),
        (b"<a>" + b"<b/>" * xml.MAX_ELEMENTS + b"</a>", "line 1", "more than 8192 elements"),
        (b"<a " + b" ".join(b"x%d='1'" % n for n in range(65)) + b"/>", "line 1, column 1", "more than 64 attributes"),
        (b"<" + b"n" * 1025 + b"/>", "line 1, column 1", "a name of more than 1024 characters"),
    ],
)
def test_what_is_not_allowed_is_refused_with_its_place(document: bytes, where: str, problem: str) -> None:
    with pytest.raises(InputError) as refused:
        parse(document)
    assert refused.value.where.startswith(where)
    assert problem in refused.value.problem
