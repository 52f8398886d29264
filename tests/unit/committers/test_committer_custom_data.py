# SPDX-License-Identifier: Apache-2.0
"""The committer of custom data, killed at every point before: it has systemd start the script once, or not again.

systemctl and systemd-run are scripts here that keep one unit as a file; tests/flow has the real ones.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc.errors import CommitError
from ipc.messages import CommitCustomData
from tests.unit.committers.programs_here import tools_in
from workers.committers.custom_data import UNIT, run_custom_data
from workers.committers.once import Once
from workers.committers.transient_unit import Unit

BOOT, ANOTHER = "0b6e9d3c-2f51-4c0e-8a7d-5e4f3c2b1a09", "f1e2d3c4-b5a6-4978-8695-a4b3c2d1e0f9"
ORDER = CommitCustomData("/var/lib/waagent/Custom$Data", True, 60, ("/run/ours",))
SYSTEMCTL = """#!/bin/sh
here=${0%/*}
echo "$1" >>$here/asked
case $1 in
show) [ -e $here/unit ] && cat $here/unit || printf 'LoadState=not-found\\nActiveState=inactive\\n' ;;
stop) rm -f $here/unit ;;
esac
"""
SYSTEMD_RUN = """#!/bin/sh
here=${0%/*}
[ ! -e $here/unit ] || { echo "the unit is there already" >&2; exit 1; }
for word; do echo "$word"; done >>$here/started
cp $here/next $here/unit
"""
OVER = """LoadState=loaded
ActiveState=active
SubState=exited
Result=success
MainPID=0
ExecMainCode=1
ExecMainStatus=3
ExecMainStartTimestampMonotonic=1000000
ExecMainExitTimestampMonotonic=3500000
"""


class Systemd:
    """The programs and what became of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, text in {"systemctl": SYSTEMCTL, "systemd-run": SYSTEMD_RUN}.items():
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        (folder / "next").write_text(OVER)
        self.record = os.open(folder / "record", os.O_RDWR | os.O_CREAT, 0o600)

    def has_the_unit(self, shown: str = OVER) -> None:
        (self.folder / "unit").write_text(shown)

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    @property
    def starts(self) -> int:
        return self.lines("started").count(f"--unit={UNIT}")

    def run(self, boot_id: str = BOOT) -> str:
        return run_custom_data(ORDER, Once(self.record, boot_id), Unit(UNIT, tools_in([str(self.folder)])))


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    made = Systemd(tmp_path)
    yield made
    os.close(made.record)


def test_it_is_started_once_and_its_end_is_told(systemd: Systemd) -> None:
    assert "ran 2.5 s, exit status 3, which is ignored" in systemd.run()
    assert "ran 2.5 s, exit status 3" in systemd.run()
    assert systemd.starts == 1
    words = systemd.lines("started")
    # systemd would put a variable's value there.
    assert words[-3:] == ["--", "/bin/sh", "/var/lib/waagent/Custom$$Data"]
    assert words[-4] == "/run/ours"
    assert "--property=RuntimeMaxSec=60" in words


@pytest.mark.parametrize(
    ("stage", "is_there", "starts", "said"),
    [
        ("", False, 1, "exit status 3"),
        # Left by an earlier provisioning.
        ("", True, 1, "exit status 3"),
        # Killed before systemd was asked; and after it, before that was written down.
        ("begun", False, 1, "exit status 3"),
        ("begun", True, 0, "exit status 3"),
        ("started", True, 0, "exit status 3"),
        # Somebody had systemd forget it.
        ("started", False, 0, "it is over"),
    ],
)
def test_whatever_a_killed_one_left(systemd: Systemd, stage: str, is_there: bool, starts: int, said: str) -> None:
    if stage:
        Once(systemd.record, BOOT).note("begun" if stage == "begun" else "started")
    if is_there:
        systemd.has_the_unit()
    assert said in systemd.run()
    assert systemd.starts == starts
    assert Once(systemd.record, BOOT).stage == "started"
    assert "exit status 3" in systemd.run() or starts == 0
    assert systemd.starts == starts


@pytest.mark.parametrize("stage", ["begun", "started"])
def test_after_another_boot_nobody_is_even_asked(systemd: Systemd, stage: str) -> None:
    Once(systemd.record, ANOTHER).note("begun" if stage == "begun" else "started")
    assert "not run again" in systemd.run()
    assert (systemd.starts, systemd.lines("asked")) == (0, [])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ExecMainCode=1": "ExecMainCode=2", "ExecMainStatus=3": "ExecMainStatus=9"}, "ended by signal 9"),
        ({"Result=success": "Result=timeout", "=active": "=failed"}, "still ran after 60 s"),
    ],
)
def test_other_ends_are_told(systemd: Systemd, changed: dict[str, str], said: str) -> None:
    shown = OVER
    for old, new in changed.items():
        shown = shown.replace(old, new)
    (systemd.folder / "next").write_text(shown)
    assert said in systemd.run()


def test_a_manager_that_says_no_is_told(systemd: Systemd) -> None:
    (systemd.folder / "systemd-run").write_text(
        "#!/bin/sh\necho 'Failed to start transient service unit' >&2; exit 1\n"
    )
    with pytest.raises(CommitError, match="Failed to start transient"):
        systemd.run()
    assert Once(systemd.record, BOOT).stage == "begun"


def test_without_systemds_programs_it_says_so(systemd: Systemd) -> None:
    (systemd.folder / "systemctl").unlink()
    with pytest.raises(CommitError, match="systemctl is not installed"):
        systemd.run()
