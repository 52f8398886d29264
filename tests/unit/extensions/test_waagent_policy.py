# SPDX-License-Identifier: Apache-2.0
"""waagent's policy file: which one it is, how it is copied, and that one that can't be used is not taken for none."""

import os
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from ipc.descriptors import read_sealed, sealed_memfd
from ipc.messages import (
    ExtensionPolicyFile,
    InputRefused,
    Message,
    ParseExtensionPolicy,
    PolicyEntry,
    ReadWaagentPolicy,
    WaagentPolicyRead,
)
from ipc.messages.waagent_policy import MOST_POLICY_BYTES
from policy.load import load
from supervisor.config import parse_bytes
from supervisor.extensions.ruling import Waagent
from supervisor.extensions.waagent_policy import WaagentPolicy
from supervisor.fleet import Unavailable
from supervisor.spawner.waagent_policy_path import filled_in, named
from workers.waagent_policy.main import NO_FILE, on_read

PATH = "/etc/waagent_policy.json"
SWITCH = b"Debug.EnableExtensionPolicy=y\n"
CONTENT = b'{"policyVersion": "0.1.0"}'
FILE = ExtensionPolicyFile("0.1.0", True, False, (PolicyEntry("Contoso.Agent"),))


def copied(root: Path) -> tuple[WaagentPolicyRead, bytes]:
    """What the worker answers about the view `root`."""
    ((answer, (copy,)),) = on_read(root, ReadWaagentPolicy(), ())  # type: ignore[misc]
    assert isinstance(answer, WaagentPolicyRead)
    try:
        return answer, read_sealed(copy, MOST_POLICY_BYTES)
    finally:
        os.close(copy)


@pytest.fixture
def view(tmp_path: Path) -> Path:
    made = tmp_path / "view"
    (made / "etc/deeper").mkdir(parents=True)
    return made


def test_the_one_file_of_the_view_is_copied_wherever_it_is(view: Path) -> None:
    (view / "etc/deeper/policy").write_bytes(CONTENT)
    assert copied(view) == (WaagentPolicyRead(is_there=True), CONTENT)
    (view / "etc/deeper/policy").write_bytes(b" " * MOST_POLICY_BYTES)
    assert copied(view)[0].problem == ""


def test_an_empty_view_has_no_file(tmp_path: Path) -> None:
    assert copied(tmp_path) == (WaagentPolicyRead(is_there=False), b"")


@pytest.mark.parametrize("kind", ["folder", "two", "pipe", "link", "large"])
def test_what_is_no_file_of_a_policy_is_a_problem_and_not_nothing(view: Path, kind: str) -> None:
    path, problem = view / "etc/deeper/policy", NO_FILE
    if kind == "two":
        path.write_bytes(CONTENT)
        (view / "etc/other").write_bytes(CONTENT)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/nowhere")
        problem = "it can't be read: Too many levels of symbolic links"
    elif kind == "large":
        path.write_bytes(b" " * (MOST_POLICY_BYTES + 1))
        problem = f"it is larger than {MOST_POLICY_BYTES} bytes"
    assert copied(view) == (WaagentPolicyRead(is_there=True, problem=problem), b"")


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (b"", ""),
        (b"Policy.PolicyFilePath=/srv/policy.json", "/srv/policy.json"),
        (b' Policy.PolicyFilePath = "/srv/policy.json" # ours', "/srv/policy.json"),
        (b"#Policy.PolicyFilePath=/srv/policy.json", ""),
        (b"Policy.PolicyFilePath=/a\nPolicy.PolicyFilePath=/b//c/", "/b/c"),
        (b"Policy.PolicyFilePath=policy.json", ""),
        (b"Policy.PolicyFilePath=/", ""),
        (b"Policy.PolicyFilePath=//", ""),
        (b"Policy.PolicyFilePath=/etc/..", ""),
    ],
)
def test_the_view_holds_the_file_that_the_configuration_names(line: bytes, path: str) -> None:
    assert named(line) == path
    paths = filled_in(load(), line).by_kind["waagent-policy"].profile.paths
    assert [(grant.path, grant.access) for grant in paths] == [(path or PATH, "ro")]


class Workers:
    """In the place of the fleet: what each kind answers."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[Message] = []

    async def do(self, kind: str, request: Message, given: tuple[int, ...] = (), **_: Any) -> Any:
        self.asked.append(request)
        self.given = [read_sealed(each, MOST_POLICY_BYTES) for each in given]
        answer = self.answers[kind.replace("-", "_")]
        if isinstance(answer, Exception):
            raise answer
        content = CONTENT if isinstance(answer, WaagentPolicyRead) else None
        return [(answer, () if content is None else (sealed_memfd("copy", content),))]


class Noted:
    """All that is told: the history's files, the audit log's records, the log's lines."""

    def __init__(self, workers: Workers, config: bytes) -> None:
        self.fleet, self.config = workers, parse_bytes("/etc/waagent.conf", config).config
        self.kept: list[tuple[str, bytes]] = []
        self.audited: list[tuple[str, str]] = []
        self.said: list[str] = []
        self.policy = WaagentPolicy(self, lambda name, content: self.kept.append((name, content)))  # type: ignore[arg-type]

    def say(self, level: str, source: str, text: str) -> None:
        self.said.append(f"{level} {source}: {text}")

    def audit(self, entry: Any) -> None:
        self.audited.append((entry.event, entry.detail))

    def read(self) -> Waagent:
        return finished(self.policy.read())


def finished(work: Coroutine[Any, Any, Waagent]) -> Waagent:
    try:
        work.send(None)
    except StopIteration as end:
        found: Waagent = end.value
        return found
    raise AssertionError("it waits")


THERE = WaagentPolicyRead(is_there=True)


def test_what_it_says_is_read_anew_for_each_goal_state() -> None:
    noted = Noted(Workers(waagent_policy=THERE, parser=FILE), SWITCH)
    assert noted.read() == noted.read() == noted.policy.now == Waagent(PATH, FILE)
    assert noted.fleet.asked == [ReadWaagentPolicy(), ParseExtensionPolicy()] * 2
    assert noted.fleet.given == [CONTENT]
    assert noted.kept == [("waagent_policy.json", CONTENT)] * 2
    assert noted.audited == [("policy", f"waagent's policy file {PATH}: in force")]
    noted.fleet.answers["waagent_policy"] = WaagentPolicyRead(is_there=False)
    assert noted.read() == Waagent(PATH)
    assert noted.audited[1:] == [("policy", f"waagent's policy file {PATH}: gone")]
    assert noted.said == []


def test_nobody_looks_where_nobody_asked_for_it() -> None:
    noted = Noted(Workers(), b"Debug.EnableExtensionPolicy=n\n")
    assert noted.read() == Waagent(PATH)
    assert noted.fleet.asked == []


@pytest.mark.parametrize(
    ("copy", "parsed", "problem"),
    [
        (WaagentPolicyRead(is_there=True, problem=NO_FILE), FILE, NO_FILE),
        (InputRefused("answer", "too large"), FILE, "too large"),
        (Unavailable("waagent-policy died 4 times"), FILE, "waagent-policy died 4 times"),
        (OSError(24, "Too many open files"), FILE, "[Errno 24] Too many open files"),
        (THERE, InputRefused("policyVersion", "is newer than 0.1.0"), "policyVersion: is newer than 0.1.0"),
        (THERE, Unavailable("parser died 4 times"), "parser died 4 times"),
    ],
)
def test_a_file_that_can_not_be_used_is_never_taken_for_none(copy: Any, parsed: Any, problem: str) -> None:
    noted = Noted(Workers(waagent_policy=copy, parser=parsed), SWITCH)
    for _ in range(2):
        assert noted.read() == Waagent(PATH, None, problem)
    assert noted.said == [
        f"error extensions: {PATH} can't be used, and until it can no operation is allowed: {problem}"
    ]
    assert noted.audited == [("policy", f"waagent's policy file {PATH}: can't be used: {problem}")]
    assert noted.kept == ([("waagent_policy.json", CONTENT)] * 2 if copy is THERE else [])


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    before = set(Path("/proc/self/fd").iterdir())
    yield
    assert set(Path("/proc/self/fd").iterdir()) <= before
