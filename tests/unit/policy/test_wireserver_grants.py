# SPDX-License-Identifier: Apache-2.0
"""What a grant to the WireServer lets through: exactly what it names, in the one form that nobody reads differently."""

import posixpath
from pathlib import Path
from urllib.parse import unquote, urlsplit

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.errors import ConfigError
from ipc.messages import WireGrant
from ipc.messages.grants import MOST_GRANTS
from policy.grants import HEADERS, faults, is_passed_on, permitted, told
from policy.in_force import in_force
from policy.lint_all import faults as faults_of_all
from policy.load import own_folder
from policy.material import Material
from policy.sources import read_sources
from supervisor.cli.policy_table import table
from supervisor.compiler.ruling import rule

PATH, BELOW = "/metadata/recsvc/snapshot/dosnapshot", "/metadata/other/"
GRANT = WireGrant(
    "Vendor.Snapshot",
    ("POST",),
    (PATH, BELOW),
    "The backup calls the host itself.",
    "system.slice/vendor.service",
    ("", "api-version=2017-12-01"),
)
# What readers of a target disagree about, among what it is otherwise made of.
PIECES = [
    *"/.%\\?#@:;&= \t\n\0é",
    "//",
    "/./",
    "/../",
    "..",
    "%2e",
    "%2E%2e",
    "%2f",
    "%5c",
    "%00",
    "%252e",
    PATH,
    BELOW,
    "machine",
    "metadata",
    "recsvc",
    "?comp=certificates",
    "?api-version=2017-12-01",
    "http://168.63.129.16",
    "168.63.129.16:80",
]


@pytest.mark.parametrize(
    "target", [PATH, f"{PATH}?api-version=2017-12-01", BELOW, f"{BELOW}a", f"{BELOW}a/b-c.d_e~f:g", f"{BELOW}a/"]
)
def test_what_it_names_is_permitted(target: str) -> None:
    assert permitted(GRANT, "POST", target)
    assert not permitted(GRANT, "GET", target)
    assert not permitted(GRANT, "post", target)


@pytest.mark.parametrize(
    "target",
    [
        "",
        "/",
        "*",
        "/machine?comp=certificates",
        PATH[1:],
        f"/{PATH}",
        f"{PATH}/",
        f"{PATH}/a",
        PATH.upper(),
        f"{PATH}\n",
        f"{PATH}?",
        f"{PATH}?api-version=2017-12-02",
        f"{PATH}?api-version=2017-12-01&a=b",
        f"{PATH}?api-version=2017-12-01?",
        f"{PATH}#",
        f"{PATH}%20",
        f"{PATH};a=b",
        BELOW[:-1],
        f"{BELOW}..",
        f"{BELOW}./a",
        f"{BELOW}../machine",
        f"{BELOW}/a",
        f"{BELOW}%2e%2e/machine",
        f"{BELOW}..%2fmachine",
        f"{BELOW}..\\machine",
        f"{BELOW}a\tb",
        f"{BELOW}a\0",
        f"{BELOW}é",
        f"http://168.63.129.16{PATH}",
        f"//168.63.129.16{PATH}",
        "168.63.129.16:80",
        f"{BELOW}{'a' * 2048}",
    ],
)
def test_all_else_is_not(target: str) -> None:
    assert not permitted(GRANT, "POST", target)


@given(
    st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.text(max_size=60).map(lambda text: BELOW + text)
)
def test_whoever_reads_a_permitted_target_sees_a_granted_path(target: str) -> None:
    if not permitted(GRANT, "POST", target):
        return
    seen = urlsplit(target)
    assert (seen.scheme, seen.netloc, seen.fragment) == ("", "", "")
    assert seen.query in GRANT.queries
    for path in (seen.path, unquote(seen.path), unquote(unquote(seen.path)), seen.path.replace("\\", "/")):
        meant = posixpath.normpath(path) + ("/" if path.endswith("/") else "")
        assert meant == path
        assert meant == PATH or meant.startswith(BELOW)
    assert target.isascii()
    assert target.isprintable()


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_header_goes_on_that_is_not_on_the_list(name: str, value: str) -> None:
    assert not is_passed_on(name, value) or name in HEADERS
    assert not is_passed_on("accept", value) or (value.isascii() and value.isprintable())


@given(st.sampled_from(sorted(HEADERS)), st.text(st.characters(max_codepoint=255), max_size=12))
def test_what_goes_on_is_a_header_that_can_be_sent(name: str, value: str) -> None:
    if is_passed_on(name, value):
        made = h11.Request(method="POST", target=PATH, headers=[("Host", "168.63.129.16"), (name, value)])
        assert (name.encode(), value.encode()) in list(made.headers)


def test_nothing_of_the_hosts_own_is_on_the_list() -> None:
    assert not {name for name in HEADERS if name.startswith("x-ms-azure-host")}
    assert not HEADERS & {
        "host",
        "authorization",
        "connection",
        "content-length",
        "transfer-encoding",
        "metadata",
        "cookie",
    }


@pytest.mark.parametrize(
    ("grants", "said"),
    [
        ([GRANT, GRANT], "Vendor.Snapshot is named twice"),
        ([WireGrant("A", ("GET",), ("/a/../b",), GRANT.why, "a")], "a segment of dots"),
        ([WireGrant("A", ("POST",), ("/Secure-Channel/key",), GRANT.why, "a")], "is the secure channel's"),
        ([WireGrant("A", ("GET",), ("/a",), GRANT.why, "../a")], "cgroup ../a has a segment of dots"),
        ([WireGrant("A", ("GET",), ("/a",), GRANT.why)], "cgroup is not named"),
        ([WireGrant(f"A{n}", ("GET",), ("/a",), GRANT.why, "a") for n in range(MOST_GRANTS + 1)], "at most 16"),
    ],
)
def test_grants_that_can_not_be_meant_are_told(grants: list[WireGrant], said: str) -> None:
    assert any(said in fault for fault in faults(grants))
    assert list(faults([GRANT])) == []


SOURCES = read_sources(own_folder())
TABLE = f"""[[wireserver]]
handler = "Vendor.Snapshot"
cgroup = "system.slice/vendor.service"
methods = ["POST"]
paths = ["{PATH}", "{BELOW}"]
queries = ["", "api-version=2017-12-01"]
why = "The backup calls the host itself."
"""


def ruled(table: str, config: bytes = b"Policy.AllowLoosening=y\n") -> tuple[WireGrant, ...]:
    return rule(Material(SOURCES, {"10-a.toml": table.encode()}, b"", config, "/etc/waagent.conf")).wireserver


def test_a_grant_is_a_loosening_and_none_is_shipped() -> None:
    assert ruled(TABLE) == (GRANT,)
    assert ruled('min_level = "basic"\n') == ()
    with pytest.raises(
        ConfigError, match=r"AllowLoosening=y; these loosen: wireserver: Vendor\.Snapshot may POST /metadata"
    ):
        ruled(TABLE, b"")


def test_whoever_asks_for_the_policy_is_told() -> None:
    policy = in_force(Path(own_folder()), {"10-a.toml": TABLE.encode()})
    ((file, change),) = policy.changes
    assert (file, change.sign, change.what, change.effect) == ("10-a.toml", "+", told(GRANT), "loosens")
    shown = " ".join(" ".join(line.split()) for line in table(policy, 100))
    assert f"{told(GRANT)}, in system.slice/vendor.service. {GRANT.why}" in shown
    found = faults_of_all(Path(own_folder()), {"10-a.toml": TABLE.encode()})
    assert found == [f"policy.d/10-a.toml: loosens, which takes Policy.AllowLoosening=y: wireserver: {told(GRANT)}"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            '["POST"]',
            '["TRACE"]',
            r"\[\[wireserver\]\] entry 1, methods, entry 1: 'TRACE' is no word that may stand here",
        ),
        (PATH, "/a%20b", r"\[\[wireserver\]\] .*expected a text of the form"),
        (PATH, "/a/../b", "a segment of dots"),
        ('why = "The backup calls the host itself."', "", "entry 1, why: is missing"),
        ("queries", "query", "entry 1, query: there is no such key"),
        ("api-version=2017-12-01", "a#b", "expected a text of the form"),
    ],
)
def test_a_fault_names_file_and_table(old: str, new: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as refusal:
        ruled(TABLE.replace(old, new))
    assert str(refusal.value).startswith("policy.d/10-a.toml")
