# SPDX-License-Identifier: Apache-2.0
"""What an attempt of a vendor's command comes to beside what is expected of its class; and the catalogue of them."""

from pathlib import Path

import pytest

from ipc.errors import ConfigError
from supervisor.prove.handler_attempts import Attempt, Outcome, make
from supervisor.prove.handler_cases import CLASSES, WAYS, Case, lint, read_cases
from supervisor.prove.handler_verdict import HandlersProof, as_json, judge, lines

CASE = Case("one", "comes by something", "try", ("refused", "reached"), determined="try harder", why="It is root.")
YES, NO, NEVER = (Outcome("", reached) for reached in (True, False, None))


def named(**outcomes: Outcome) -> dict[str, Outcome]:
    return {f"one.{way}": outcome for way, outcome in outcomes.items()}


@pytest.mark.parametrize(
    ("handler_class", "way", "got", "bare", "state", "differs"),
    [
        ("compat", "plain", NO, YES, "refused", False),
        ("compat", "plain", YES, YES, "reached", True),
        ("compat", "plain", NO, NO, "not applicable", False),
        ("compat", "plain", YES, NO, "reached", True),
        ("compat", "plain", NEVER, YES, "broken", True),
        ("compat", "determined", YES, YES, "reached", False),
        # What is stricter than is told is not as it is told, either.
        ("compat", "determined", NO, YES, "refused", True),
        ("contained", "determined", NO, YES, "refused", False),
        ("contained", "determined", YES, YES, "reached", True),
    ],
)
def test_what_is_otherwise_than_expected_differs(
    handler_class: str, way: str, got: Outcome, bare: Outcome, state: str, differs: bool
) -> None:
    found = judge(CASE, handler_class, way, named(**{way: got}), named(**{way: bare}))  # type: ignore[arg-type]
    assert (found.state, found.differs) == (state, differs)
    assert bool(HandlersProof((CASE,), (found,)).wrong) == differs
    assert as_json(HandlersProof((CASE,), (found,)))["holds"] is not differs


def test_what_was_never_tried_is_told() -> None:
    found = judge(CASE, "contained", "plain", {}, named(plain=YES))
    told = "\n".join(lines(HandlersProof((CASE,), (found,)), case_by_case=False))
    assert "!broken" in told
    assert "comes by something [one, plain]: BROKEN, expected is refused (it was not tried)" in told


def test_the_catalogue_has_all_cases_of_extensions_that_a_command_can_try() -> None:
    cases = read_cases()
    assert {case.number for case in cases} >= {48, 49, 50, 51, 52, 53, 54, 55, 57}
    assert [case.id for case in cases if "reached" in case.contained] == ["its-own-keys", "fills-the-disk"]
    for case in cases:
        assert {case.expected(name, way) for name in CLASSES for way in WAYS if case.line(way)} <= {
            "reached",
            "refused",
        }


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (Case("one", "comes by something", "try", ("refused", "refused")), "compat says 2 times"),
        (Case("one", "comes by something", "try", ("reached",)), "no word on why"),
        (Case("one", "comes by something", "try", ("refused",), evidence="determined"), "a way that it has not"),
        (CASE, "is there twice"),
    ],
)
def test_what_is_wrong_with_a_case_is_told(wrong: Case, complaint: str) -> None:
    assert [problem for problem in lint([CASE, wrong]) if complaint in problem]
    assert lint([CASE]) == []


def test_a_file_that_is_none_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text('[[cases]]\nid = "x"\ntitle = "comes by something"\nplain = "true"\n')
    with pytest.raises(ConfigError, match=r"handlers/bad\.toml.*compat"):
        read_cases(str(tmp_path))


def test_an_attempt_is_told_by_its_status_and_last_words() -> None:
    refused = make(Attempt("a", 'echo 3; echo first >&2; echo "$WORD" >&2; exit 4'), {"WORD": "last"})
    assert refused == Outcome("a", False, "3", "last")
    assert make(Attempt("b", "cd /; [ $(pwd) = / ]"), {}) == Outcome("b", True)
