# SPDX-License-Identifier: Apache-2.0
"""Leaves out, aloud, what needs root when the tests are run without it."""

import os

import pytest
from hypothesis import settings

REASON = "needs root"

# Without its database of examples: whoever may not write here can run the tests, too.
settings.register_profile("stateless", database=None)
settings.load_profile("stateless")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(pytest.mark.skip(reason=REASON))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    left_out = [report for report in terminalreporter.getreports("skipped") if REASON in str(report.longrepr)]
    if left_out:
        terminalreporter.write_line(f"{len(left_out)} tests were left out: they need root (sudo make test)")
