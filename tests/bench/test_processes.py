# SPDX-License-Identifier: Apache-2.0
"""Shows that what the bench reads from /proc is what happened, with real processes."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench import processes
from tests.bench.samples import Budget, Row, quantile
from tests.bench.table import broken, table
from tests.fabric.waiting import until

# A shell that starts a child for every line it reads, and tells when the child has ended.
STARTER = 'sleep 600 & echo ready; while read line; do /bin/true; echo done; done; kill "$!"'


@pytest.fixture
def shell() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        ["/bin/sh", "-c", STARTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        yield process
        assert process.stdin
        process.stdin.close()


def start_child(shell: subprocess.Popen[str]) -> None:
    assert shell.stdin
    assert shell.stdout
    shell.stdin.write("\n")
    assert shell.stdout.readline() == "done\n"


def test_the_tree_is_the_process_and_what_descends_from_it(shell: subprocess.Popen[str]) -> None:
    tree = until("the sleeper runs", lambda: len(t := processes.process_tree(shell.pid)) == 2 and t)
    assert tree
    assert tree[0] == shell.pid
    assert processes.process_tree(2**22 + 1) == ()


def test_a_child_that_lived_and_died_is_noticed_and_stillness_too(shell: subprocess.Popen[str]) -> None:
    before = processes.family(shell.pid)
    assert processes.child_processes_started(before, processes.family(shell.pid)) == 0
    start_child(shell)
    assert processes.child_processes_started(before, processes.family(shell.pid)) == 1


def test_memory_and_wakeups_are_of_the_live_processes(shell: subprocess.Popen[str]) -> None:
    woken = processes.wakeups([shell.pid])
    start_child(shell)
    assert processes.wakeups([shell.pid]) > woken
    assert 0 < processes.pss_mib([shell.pid]) <= processes.rss_mib(shell.pid)
    assert processes.pss_mib([2**22 + 1]) == 0


@pytest.mark.root
def test_pages_shared_with_other_pythons_count_as_ones_own() -> None:
    """Two interpreters share their library: plain PSS halves it, while for one alone all of it counts."""
    code = "import sys; print(flush=True); sys.stdin.read()"
    command = [sys.executable, "-I", "-c", code]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as one,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other,
    ):
        for interpreter in (one, other):
            assert interpreter.stdout
            assert interpreter.stdout.readline() == b"\n"
        alone = processes.pss_alone_mib([one.pid])
        assert processes.pss_mib([one.pid]) < alone <= processes.rss_mib(one.pid)
        assert alone < processes.pss_alone_mib([one.pid, other.pid]) < 2 * alone
        for interpreter in (one, other):
            assert interpreter.stdin
            interpreter.stdin.close()


def test_a_process_began_when_it_was_started() -> None:
    before = time.monotonic()
    with subprocess.Popen(["/bin/sleep", "600"]) as sleeper:
        # The kernel counts in ticks of 10 ms.
        assert before - 0.011 <= processes.started_at(sleeper.pid) <= time.monotonic()
        until("the program runs", lambda: processes.program_name(sleeper.pid) == "sleep")
        sleeper.kill()
    with pytest.raises(ProcessLookupError):
        processes.started_at(sleeper.pid)


def test_cpu_time_grows_with_work_alone(shell: subprocess.Popen[str]) -> None:
    idle = processes.cpu_seconds([shell.pid])
    start_child(shell)
    assert processes.cpu_seconds([shell.pid]) > idle


def test_an_idle_tree_is_idle(shell: subprocess.Popen[str]) -> None:
    start_child(shell)
    # It has told of the child's end; what is left is that it goes to sleep on its next line.
    until("the shell sleeps", lambda: "State:\tS" in Path(f"/proc/{shell.pid}/status").read_text())
    idle = processes.watch_idle(shell.pid, 0.3, time.monotonic)
    assert idle.seconds >= 0.3
    assert (idle.children, idle.wakeups_a_second, idle.cpu_s_a_minute) == (0, 0, 0)


def test_a_tree_that_ends_while_watched_is_no_measurement() -> None:
    with subprocess.Popen(["/bin/true"]) as process, pytest.raises(ProcessLookupError):
        processes.watch_idle(process.pid, 5, time.monotonic)


def test_a_quantile_is_a_value_that_was_measured() -> None:
    values = (5.0, 1.0, 4.0, 2.0, 3.0)
    assert [quantile(values, percent) for percent in (1, 50, 99)] == [1, 3, 5]
    with pytest.raises(ValueError, match="no values"):
        quantile((), 50)


def test_only_a_binding_budget_fails_the_run() -> None:
    slow = Row("start", "ms", (30.0,), Budget(20, binding=False))
    many = Row("children", "count", (1.0,), Budget(0, binding=True))
    fine = Row("wake-ups", "1/s", (1.0, 9.0), Budget(2, binding=True))
    tail = Row("tail", "1/s", (1.0, 9.0), Budget(2, binding=True), at=99)
    assert broken([slow, many, fine, tail]) == ["children", "tail"]
    text = table(Row("python3 -I -c pass", "ms", (10.0,)), [slow, many])
    assert "over" in text.splitlines()[2]
    assert text.splitlines()[2].endswith(" 3")
