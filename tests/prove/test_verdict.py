# SPDX-License-Identifier: Apache-2.0
"""What an attempt comes to, and what that means beside the same one without confinement."""

import signal

import pytest

from supervisor.prove.catalogue import Attack
from supervisor.prove.report import Proof, as_json, lines, rows
from supervisor.prove.verdict import Ended, Verdict, inferred, judge, read_end

ATTACK = Attack("one", "tries something or other", "worker", probe="opens", controls=("seccomp", "landlock", "view"))
SUCCEEDED, DENIED = Ended("succeeded"), Ended("denied", "EACCES")
BEGAN = ("begins",)


@pytest.mark.parametrize(
    ("confined", "bare", "grant", "state"),
    [
        (DENIED, SUCCEEDED, "", "stopped"),
        (DENIED, SUCCEEDED, "path /etc rw", "stopped"),
        (Ended("killed", "SIGSYS"), SUCCEEDED, "", "stopped"),
        (SUCCEEDED, SUCCEEDED, "path /etc rw", "granted"),
        (SUCCEEDED, SUCCEEDED, "", "succeeded"),
        (SUCCEEDED, DENIED, "", "succeeded"),
        (DENIED, DENIED, "", "not applicable"),
        (Ended("broken", "what happened"), SUCCEEDED, "", "broken"),
        (DENIED, Ended("broken", "what happened"), "", "broken"),
    ],
)
def test_a_case_is_stopped_only_if_it_succeeds_without_confinement(
    confined: Ended, bare: Ended, grant: str, state: str
) -> None:
    assert judge(ATTACK, "parser", grant, confined, bare).state == state


@pytest.mark.parametrize(
    ("words", "status", "end"),
    [
        ((*BEGAN, "succeeded"), 0, SUCCEEDED),
        ((*BEGAN, "denied EACCES"), 0, DENIED),
        (BEGAN, signal.SIGSYS, Ended("killed", "SIGSYS")),
        (BEGAN, signal.SIGKILL | 0x80, Ended("killed", "SIGKILL")),
    ],
)
def test_an_end_is_read_from_words_and_status(words: tuple[str, ...], status: int, end: Ended) -> None:
    assert read_end(words, status, "") == end


@pytest.mark.parametrize(("words", "status"), [((), 31), ((), 9), ((), 71 << 8), (BEGAN, 0), (BEGAN, 1 << 8)])
def test_whoever_never_attacked_was_not_stopped(words: tuple[str, ...], status: int) -> None:
    assert read_end(words, status, "not confined").how == "broken"


def test_the_first_of_the_attacks_own_controls_that_the_sign_speaks_for() -> None:
    assert inferred(("seccomp", "view", "landlock"), "EACCES") == "view"
    assert inferred(("seccomp", "landlock"), "SIGSYS") == "seccomp"
    assert inferred(("table",), "said something") == "table"


def proof(*states: str) -> Proof:
    verdicts = tuple(
        Verdict("one", "parser", state, "seccomp", "EPERM", "succeeded")  # type: ignore[arg-type]
        for state in states
    )
    return Proof((ATTACK,), verdicts, "6.1")


def test_a_row_says_how_many_are_how() -> None:
    (row,) = rows(proof("stopped", "stopped", "granted", "succeeded", "broken").verdicts)
    assert (row.stopped, row.granted, row.succeeded, row.broken, row.reference) == (2, 1, 1, 1, 4)


def test_what_succeeded_is_told_aloud() -> None:
    assert proof("stopped", "granted").holes == ()
    told = "\n".join(lines(proof("stopped", "succeeded"), case_by_case=False))
    assert "parser: tries something or other [one]: SUCCEEDED beyond its policy" in told
    assert b'"holds":false' in as_json(proof("succeeded"))
    assert b'"holds":true' in as_json(proof("stopped"))
