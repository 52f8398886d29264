# SPDX-License-Identifier: Apache-2.0
"""Status files of extensions (extensions.md 9): each row of its table; what is none is that extension's error 1012."""

import json
from pathlib import Path
from typing import Any

import pytest

from ipc.codec import MAX_FRAME_BYTES, encode
from ipc.messages import ExtensionStatus, Substatus
from tests.unit.parser.conftest import Vector
from workers.parser import status_file
from workers.parser.status_file import MAX_SUBSTATUSES, NO_STATUS_FILE
from workers.parser.told import TRUNCATED

SAMPLES = Path(__file__).resolve().parents[2] / "data/status-file"
SECRET = "Tr0ub4dor"
FIELD, MESSAGE = 10 * 1024, 1024


def written(substatus: Any = ..., **said: Any) -> bytes:
    status = {"status": "success", **said, **({} if substatus is ... else {"substatus": substatus})}
    return json.dumps([{"version": 1.0, "timestampUTC": "x", "status": status}]).encode()


def of(substatus: Any = ..., **said: Any) -> ExtensionStatus:
    return status_file.parse(written(substatus, **said))


def formatted(message: str) -> dict[str, str]:
    return {"lang": "en", "message": message}


def part(name: str = "n", message: str = "m") -> dict[str, Any]:
    return {"name": name, "status": "success", "code": 0, "formattedMessage": formatted(message)}


def test_all_of_a_status_is_read() -> None:
    assert status_file.parse((SAMPLES / "all.json").read_bytes()) == ExtensionStatus(
        name="Contoso.Backup",
        operation="Enable",
        configuration_applied_time="2026-11-23T07:59:58Z",
        status="success",
        code=0,
        message="saved to https://store.blob.core.windows.net/b?<redacted> in 3 s",
        language="en-GB",
        substatuses=(
            Substatus("disk", "warning", 7, "nearly full"),
            Substatus('{"inner": ["https://store.blob.core.windows.net/b?snapshot=1"]}', "success", -2147024894, ""),
        ),
    )
    assert status_file.parse((SAMPLES / "least.json").read_bytes()) == ExtensionStatus(
        "", "", "", "transitioning", 0, ""
    )


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (b"", "is no JSON"), (b"{", "is no JSON"), (written()[:-9], "is no JSON"), (b"[{'status': {}}]", "is no JSON"),
        (b"{}", "document: is no list"), (b"null", "document: is no list"), (b'"text"', "document: is no list"),
        (b"[null]", "[0].status: is missing"), (b"[7]", "[0].status: is missing"), (b"[{}]", "[0].status: is missing"),
        (b'[{"status": null}]', "[0].status: is missing"), (b'[{"status": "success"}]', "[0].status: is missing or no"),
        (b'[{"status": {}}]', "[0].status.status: is missing"),
        (written({"a": 1}), "[0].status.substatus: is no list"),
        (written([7]), "[0].status.substatus[0]: is no object"),
        (written([part(), {"status": "done"}]), "[0].status.substatus[1].status: is none of transitioning, warning"),
        (written([{"name": "x"}]), "[0].status.substatus[0].status: is none of"),
        (written(formattedMessage="done"), "[0].status.formattedMessage: is no object"),
        (written(formattedMessage={"lang": "en"}), "formattedMessage.message: is missing"),
        (written(formattedMessage={"message": "x"}), "formattedMessage.lang: is missing"),
        (written([{**part(), "formattedMessage": {}}]), "substatus[0].formattedMessage.lang: is missing"),
        (b"[" * 90_000 + b"]" * 90_000, "is nested too deeply"), (b"\0" * 1000, "is no JSON"),
        (b"[" + b"{}," * 100_000 + b"{}]", "more than 100000 objects"),
    ],
)  # fmt: skip
def test_what_is_no_status_file_is_an_error_that_quotes_it(document: bytes, problem: str) -> None:
    found = status_file.parse(document)
    assert (found.status, found.code, found.substatuses) == ("error", NO_STATUS_FILE, ())
    reason, mark, quoted = found.message.partition("; it begins with: ")
    assert problem in reason
    assert mark
    assert quoted == document.decode()[:2000]


def test_a_quotation_has_no_token() -> None:
    url = f"https://store.blob.core.windows.net/a?sv=1&sig={SECRET}"
    for text in (
        f'[{{"status": "{url}"', f'[{{"status": "{url}', url.replace("&", "\\u0026"), f"sig={SECRET}", "x" * 1990 + url,
        url.replace("//", "\\/\\/"), f"https://a/\nb?sig={SECRET}",
    ):  # fmt: skip
        assert SECRET not in status_file.parse(text.encode()).message


def test_an_empty_list_says_nothing_yet() -> None:
    found = status_file.parse(b"[]")
    assert (found.status, found.code, found.name) == ("transitioning", 0, "")


@pytest.mark.parametrize("word", ["Success", "done", "", None, 7, [], {}])
def test_a_status_that_is_none_is_an_error(word: Any) -> None:
    found = of(status=word, code=3, formattedMessage=formatted("as it is"))
    assert (found.status, found.code, found.message) == ("error", 3, "as it is")


@pytest.mark.parametrize(
    ("code", "number"),
    [(0, 0), (-5, -5), ("7", 7), ("-7", -7), (2**40, 2**40), (3.0, 3), (None, 0), ("x", 0), (1.5, 0), (2**70, 0),
     ("", 0), ("9" * 5000, 0), ([1], 0), ("\u0663", 0)],
)  # fmt: skip
def test_a_code_that_is_none_is_0(code: Any, number: int) -> None:
    found = of([{**part(), "code": code}], code=code)
    assert (found.code, found.substatuses[0].code) == (number, number)


@pytest.mark.parametrize("substatus", [None, [], [None, None], ...])
def test_no_substatus_is_none(substatus: Any) -> None:
    assert of(substatus).substatuses == ()


def test_what_is_no_text_is_told_as_json() -> None:
    found = of(
        [{**part(), "name": 7}], name=None, operation=["a", 1], formattedMessage={"lang": 1, "message": {"a": 1}}
    )
    assert (found.name, found.operation, found.message, found.language) == ("", '["a",1]', '{"a":1}', "1")
    assert found.substatuses[0].name == "7"


def test_bytes_that_are_no_utf_8_and_halves_of_characters_are_replaced() -> None:
    document = written(formattedMessage=formatted("a?b")).replace(b"a?b", b"a\xff\xfeb\xc3\xa4")
    assert status_file.parse(document).message == "a\ufffd\ufffdb\u00e4"
    assert status_file.parse(b"\xef\xbb\xbf" + written(name="x")).name == "x"
    halves = written(formattedMessage=formatted("a?b")).replace(b"?", rb"\udcff\ud83d\ude00\\ud83d\ud83d")
    assert status_file.parse(halves).message == "a\ufffd\U0001f600\\ud83d\ufffdb"


def test_texts_are_cut_and_say_so() -> None:
    found = of([part("n" * 20_000, "m" * FIELD)], name="x" * 5000, formattedMessage=formatted("x" * 20_000))
    assert (len(found.message), len(found.name)) == (FIELD, 1024)
    assert found.message == "x" * (FIELD - len(TRUNCATED)) + TRUNCATED
    (only,) = found.substatuses
    assert (len(only.name), only.name.endswith(" ... [TRUNCATED]"), only.message) == (FIELD, True, "m" * FIELD)


def test_a_long_file_is_cut_to_what_the_host_takes() -> None:
    found = of([part("n" * 20_000, "m" * 20_000) for _ in range(20)], formattedMessage=formatted("x" * 5000))
    assert (len(found.message), found.message.endswith(TRUNCATED)) == (MESSAGE, True)
    assert {(len(each.name), len(each.message)) for each in found.substatuses} == {(FIELD, FIELD)}
    assert (len(found.substatuses), found.dropped) == (6, 14)
    just = written(formattedMessage=formatted("x" * 5000), filling="")
    just = written(formattedMessage=formatted("x" * 5000), filling="y" * (128 * 1024 - len(just)))
    assert len(just) == 128 * 1024
    assert len(status_file.parse(just).message) == 5000
    assert len(status_file.parse(just + b" ").message) == MESSAGE


@pytest.mark.parametrize("letter", ["x", "\u20ac", "\U0001f511", "\x01"])
@pytest.mark.parametrize("size", [1, 40, 200, 2000])
def test_whatever_there_is_fits_into_a_frame(letter: str, size: int) -> None:
    count = min(2000, 900_000 // (size * 24 + 100))
    parts = [part(letter * size, letter * size) for _ in range(count)]
    found = of(parts, formattedMessage=formatted(letter * FIELD))
    assert found.status == "success"
    assert len(encode(found, 1 << 40)) <= MAX_FRAME_BYTES
    assert len(found.substatuses) + found.dropped == count
    assert len(found.substatuses) <= MAX_SUBSTATUSES
    assert len(found.substatuses) >= min(MAX_SUBSTATUSES, count, 90 * 1024 // (size * 2 * len(letter.encode()) + 60))


def test_status_files_of_others(vector: Vector) -> None:
    sound = status_file.parse(vector("extensions/sample-status.json"))
    assert (sound.name, sound.operation, sound.status, sound.code) == (
        "Microsoft.Azure.Extension.VMExtension", "Enable", "success", 1,
    )  # fmt: skip
    assert [(each.status, each.code, each.message) for each in sound.substatuses] == [("success", 0, "")]
    broken = status_file.parse(vector("extensions/sample-status-invalid-json-format.json"))
    assert (broken.status, broken.code) == ("error", NO_STATUS_FILE)
    large = status_file.parse(vector("extensions/sample-status-very-large.json"))
    assert (large.status, len(large.message), large.message[-16:]) == ("success", MESSAGE, TRUNCATED)
    assert [len(each.name) for each in large.substatuses] == [FIELD]
