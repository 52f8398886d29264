# SPDX-License-Identifier: Apache-2.0
"""The copies for the history: nothing secret is in them however it was written, or one sentence stands for them."""

import json
from pathlib import Path

import pytest

from workers.parser import extensions_config, vm_settings
from workers.parser.redaction import MARK, WITHHELD, without_tokens

SAMPLES = Path(__file__).resolve().parents[2] / "data"
XML = (SAMPLES / "extensions-config/all.xml").read_bytes()
JSON = (SAMPLES / "vm-settings/all.json").read_bytes()
SECRET = "Tr0ub4dor"
URL = f"https://a.blob.core.windows.net/$system/x?sv=1&sig={SECRET}"


def of_settings(text: str) -> bytes:
    """The copy of an ExtensionsConfig with these settings, as they stand in the XML."""
    settings = f'<Plugin name="A" version="1"><RuntimeSettings seqNo="0">{text}</RuntimeSettings></Plugin>'
    return extensions_config.parse(f"<Extensions><PluginSettings>{settings}</PluginSettings></Extensions>".encode())[1]


def test_a_copy_has_all_but_the_secrets() -> None:
    for copy, whole in ((extensions_config.parse(XML)[1], XML), (vm_settings.parse(JSON)[1], JSON)):
        assert SECRET.encode() in whole
        assert SECRET.encode() not in copy
        assert copy.count(MARK.encode()) >= 4
        for told in (b"Contoso.RunCommand", b"store.blob.core.windows.net/scripts/a.sh?", b"second", b"MIInEAYJ"):
            assert told in copy
    assert vm_settings.parse(vm_settings.parse(JSON)[1])[0].goal_state.plugins[1].name == "Contoso.RunCommand"
    assert extensions_config.parse(extensions_config.parse(XML)[1])[0].plugins[0].settings[0].sequence_number == 7


@pytest.mark.parametrize("indent", [None, 1, 8])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_how_json_is_written_makes_no_difference(indent: int | None, ascii_only: bool) -> None:
    document = json.dumps(json.loads(JSON), indent=indent, ensure_ascii=ascii_only).encode()
    assert vm_settings.parse(document) == vm_settings.parse(JSON)


@pytest.mark.parametrize(
    "text",
    [
        f'{{"protectedSettings": "{SECRET}"}}',
        f'{{ "PROTECTEDSETTINGS"\n:\n"{SECRET}" }}',
        f"{{&quot;protectedSettings&quot;: &#34;{SECRET}&#x22;}}",
        f'{{"protected\\u0053ettings": "{SECRET}"}}',
        f'{{"a": [{{"protectedSettings": {{"x": "{SECRET}"}}}}]}}',
        f'{{"u": "https:\\/\\/a\\/b?sv=1\\u0026sig={SECRET}"}}',
        f'{{"u": "{{\\"deep\\": \\"https:\\\\/\\\\/a\\\\/b?sv=1\\\\u0026sig={SECRET}\\"}}"}}',
        f"no JSON at all {SECRET}",
        "[" * 100 + f'"{SECRET}"' + "]" * 100,
        f'<![CDATA[{{"protectedSettings": "{SECRET}"}}]]>',
        f'<x y="{SECRET}"/>',
        f'{{"{URL.replace("&", "&amp;")}": 1}}',
    ],
)
def test_settings_of_any_form_lose_their_secrets_and_nothing_else_is_lost(text: str) -> None:
    copy = of_settings(text)
    assert SECRET.encode() not in copy
    assert MARK.encode() in copy
    assert copy.startswith(b"<Extensions><PluginSettings>")


@pytest.mark.parametrize(
    "text",
    [
        f"https://a/b&#63;sv=1&amp;sig={SECRET}",
        f"&#104;ttps://a/b?sv=1&amp;sig={SECRET}",
        f"ftp://a/b?sig={SECRET}",
        f"https%3A%2F%2Fa%2Fb%3Fsig%3D{SECRET}",
        f"?SIG={SECRET}",
        f"https://a/b?sig={SECRET}</a><a>sig&#61;{SECRET}",
        f"https://a/b?code={SECRET}</a><a>code={SECRET}",
        f"https://a/b?code={SECRET}</a><a>&#99;ode=Tr0ub4do&#114;",
    ],
)
def test_where_it_cannot_be_shown_one_sentence_takes_the_place_of_all(text: str) -> None:
    assert extensions_config.parse(f"<Extensions><a>{text}</a></Extensions>".encode())[1] == WITHHELD


def test_a_protected_setting_that_is_elsewhere_too_withholds_the_copy() -> None:
    protected = {"protectedSettings": "MIIBabcd", "protectedSettingsCertThumbprint": "A" * 40}
    handler = {"name": "A.B", "version": "1", "state": "enabled", "settingsSeqNo": 0, "settings": [protected]}
    document = {"extensionGoalStates": [handler], "other": "see MIIBabcd"}
    assert vm_settings.parse(json.dumps(document).encode())[1] == WITHHELD
    del document["other"]
    assert MARK.encode() in vm_settings.parse(json.dumps(document).encode())[1]


def test_a_copy_never_grows_out_of_hand() -> None:
    many = "".join(f"<a>http://a{number}/?{number:09}</a>" for number in range(8000))
    assert extensions_config.parse(f"<Extensions>{many}</Extensions>".encode())[1] == WITHHELD


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"got {URL} now", "got https://a.blob.core.windows.net/$system/x?<redacted> now"),
        ("see https://a.b/c?x=1&y=2", "see https://a.b/c?x=1&y=2"),
        (f"HTTPS://a/b?x=1&amp;SIG={SECRET}", "HTTPS://a/b?<redacted>"),
        ("https://a/b?spare=1", "https://a/b?spare=1"),
        (f"'{URL}' and '{URL}'", "'https://a.blob.core.windows.net/$system/x?<redacted>'"
         " and 'https://a.blob.core.windows.net/$system/x?<redacted>'"),
    ],
)  # fmt: skip
def test_tokens_go_out_of_a_text(text: str, expected: str) -> None:
    assert without_tokens(text) == expected
