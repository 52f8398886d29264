# SPDX-License-Identifier: Apache-2.0
"""Where provisioning stands: the words for each outcome, and what a failure says of the machine."""

from supervisor.redaction import Redactor
from supervisor.standing import NOBODY, Standing
from supervisor.status import with_consequence
from tests.unit.supervisor.turned import HandClock


def test_every_outcome_has_its_word_and_its_time() -> None:
    clock = HandClock()
    over: list[str] = []
    standing = Standing(clock, lambda: over.append(standing.text))
    assert (standing.status().status, standing.status().since) == ("not started", 1000.0)
    clock.now += 1
    standing.enter("running")
    standing.tell("account")
    clock.now += 1
    standing.tell("password")
    assert standing.status().sentence == "running; password"
    assert (standing.status().since, standing.status().is_over) == (1001.0, False)
    standing.enter("done", "done", ready=True)
    assert (standing.status().sentence, standing.status().since, standing.status().is_over) == ("done", 1002.0, True)
    standing.leave_to(NOBODY, "not done by this agent")
    assert (standing.status().status, standing.status().agent) == ("disabled", "nobody")
    assert standing.status().ready
    assert over == ["done"]


def test_a_failure_says_once_what_it_left_behind() -> None:
    for problem, changed, told in (
        ("no DVD", False, "no DVD; nothing was changed"),
        ("account: no; nothing was changed", False, "account: no; nothing was changed"),
        ("no; this step changed nothing", True, "no; this step changed nothing; what was changed so far stays"),
    ):
        assert with_consequence(problem, changed=changed) == told
        standing = Standing(HandClock())
        standing.fail(problem, changed=changed)
        assert standing.status().sentence == f"error; failed: {told}; the next start tries again"
        assert (standing.status().error, standing.status().changed) == (problem, changed)


def test_what_is_missing_may_come_after_all() -> None:
    standing = Standing(HandClock())
    standing.lacks("Ready", "no answer")
    standing.lacks("transport key", "no memory")
    standing.has("Ready")
    standing.has("role properties")
    assert standing.status().troubles == ("transport key: no memory",)


def test_no_secret_is_told_that_the_log_would_not_tell() -> None:
    redactor = Redactor()
    redactor.register("Correct-Horse-7-Battery")
    standing = Standing(HandClock(), clean=redactor.clean)
    standing.tell("waits for Correct-Horse-7-Battery")
    standing.lacks("host", "https://x/y?sig=ABCDEFGHIJ is refused")
    standing.fail("Correct-Horse-7-Battery is too long", changed=False)
    told = str(standing.status())
    assert "Correct-Horse" not in told
    assert "ABCDEFGHIJ" not in told
    assert "is too long" in standing.status().error
