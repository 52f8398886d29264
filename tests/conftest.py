# SPDX-License-Identifier: Apache-2.0
"""Leaves out, aloud, what needs root when the tests are run without it."""

import os
import signal
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

REASON = "needs root"
# With --reruns: of thousands of tests, this many may need a second run.
MOST_RERUN = 3
# About half of the time that machines take.
OTHERS = ("tests/flow/", "tests/least/", "tests/oracle/", "tests/unit/")

# Without its database of examples: whoever may not write here can run the tests, too.
settings.register_profile("stateless", database=None)
settings.load_profile("stateless")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason=REASON))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return Lanes(config, log)


class Lanes(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """With two processes: one boots machines; the other runs what needs no machine, and then boots the other half."""

    def _split_scope(self, nodeid: str) -> str:
        return _lane(nodeid.partition("::")[0])


@cache
def _lane(path: str) -> str:
    if "pytest.mark.root" not in Path(path).read_text():
        return "plain"
    return "others" if path.startswith(OTHERS) else "machines"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    left_out = [report for report in terminalreporter.getreports("skipped") if REASON in str(report.longrepr)]
    if left_out:
        terminalreporter.write_line(f"{len(left_out)} tests were left out: they need root (sudo make test)")


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter: Any = session.config.pluginmanager.get_plugin("terminalreporter")
    again = {report.nodeid for report in reporter.stats.get("rerun", ())} if reporter else set()
    if len(again) > MOST_RERUN and session.exitstatus == pytest.ExitCode.OK:
        reporter.write_line(f"{len(again)} tests had to be run again, more than {MOST_RERUN}: this counts as failed")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_runtest_teardown() -> None:
    # A command that a test ran in this process lets a broken pipe end it; no later test is to be ended by that.
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
