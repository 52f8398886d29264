# SPDX-License-Identifier: Apache-2.0
"""What `agent-supervisor certificates` tells of each: until when, with which key, for whom; and what is wrong."""

from pathlib import Path

import pytest

from ipc.messages import ExtensionSettings, Plugin
from supervisor.certificate_store import Certificate
from supervisor.certificates import is_fips
from supervisor.certificates_shown import Shown, shown
from supervisor.cli.certificates import lines
from supervisor.config import parse
from supervisor.verbs import CERTIFICATES, pack, unpack

ONE, OTHER, ABSENT = "1" * 40, "2" * 40, "3" * 40
NOON = 1_790_000_000


def certificate(thumbprint: str, ends_s: int, *, key: bool) -> Certificate:
    return Certificate(thumbprint, key, "CN=vm", ends_s, "ssh-rsa AAAA", "RSA 2048")


def plugin(name: str, *thumbprints: str) -> Plugin:
    settings = tuple(ExtensionSettings(f"s{n}", n, "enabled", 0, each) for n, each in enumerate(thumbprints))
    return Plugin(name, "1.2", "enabled", False, (), len(settings) > 1, settings)


KNOWN = {ONE: certificate(ONE, NOON + 90000, key=True), OTHER: certificate(OTHER, NOON - 61, key=False)}


def test_each_is_told_with_whoever_uses_it() -> None:
    told = shown(KNOWN, ("a problem",), [plugin("A", ONE, ONE, ""), plugin("B", ABSENT), plugin("C", ONE)], fips=True)
    assert [row.used_by for row in told.certificates] == [("A 1.2", "C 1.2"), ()]
    assert told.missing == (ABSENT,)
    assert lines(told, NOON) == [
        ONE,
        "  subject: CN=vm",
        "  expires: 2026-09-22 15:13:20 UTC (in 1d01h)",
        "  key: RSA 2048, with its private key",
        "  used by: A 1.2, C 1.2",
        OTHER,
        "  subject: CN=vm",
        "  expires: 2026-09-21 14:12:19 UTC (1m01s ago)",
        "  key: RSA 2048, without its private key",
        "  used by: nobody in the goal state in force",
        f"missing: {ABSENT}, which protected settings are for",
        "problem: a problem",
        "FIPS: 3DES is not asked for, and OpenSSL is as this machine's configuration has it",
    ]


def test_none_and_too_many_are_told() -> None:
    assert lines(Shown(), NOON) == ["certificates: none"]
    assert lines(Shown(), NOON, cut=True)[1:] == ["The list is longer than one answer may be; the rest is left out."]
    assert unpack(pack(CERTIFICATES)) == (CERTIFICATES, "")


@pytest.mark.parametrize(
    ("setting", "kernel", "is_on"),
    [("", None, False), ("", "0\n", False), ("", "1\n", True), ("OS.EnableFIPS=y\n", "0\n", True)],
)
def test_fips_is_on_where_the_kernel_or_a_setting_says_so(
    setting: str, kernel: str | None, is_on: bool, tmp_path: Path
) -> None:
    file = tmp_path / "fips_enabled"
    if kernel is not None:
        file.write_text(kernel)
    assert is_fips(parse(setting).config, str(file)) == is_on
