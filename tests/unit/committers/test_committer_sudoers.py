# SPDX-License-Identifier: Apache-2.0
"""The sudoers committer on real files, with the real visudo; and what sudo itself makes of the outcome, in a lab."""

import shutil
import stat
from pathlib import Path

import pytest

from ipc.errors import CommitError
from ipc.messages import CommitAccount, CommitPaths, CommitSudo
from tests.fabric.lab import Lab
from tests.unit.committers.commit_here import Committers
from tests.unit.committers.programs_here import perform, tools_in
from workers.committers.sudoers import grant_sudo, is_included

PATHS = CommitPaths()
WITHOUT = CommitSudo("azureuser", without_password=True, paths=PATHS)
WITH = CommitSudo("azureuser", without_password=False, paths=PATHS)
FREE, ASKED = "azureuser ALL=(ALL) NOPASSWD: ALL", "azureuser ALL=(ALL) ALL"
MAIN = "root ALL=(ALL:ALL) ALL"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc/sudoers.d").mkdir(parents=True)
    (tmp_path / "etc/sudoers").write_text("@includedir /etc/sudoers.d\n")
    return tmp_path


def target(root: Path) -> Path:
    return root / "etc/sudoers.d/waagent"


def leftovers(root: Path) -> list[Path]:
    return list(root.rglob(".*agent-supervisor*"))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"{FREE}\n"),
        ("other ALL=(ALL) ALL", f"other ALL=(ALL) ALL\n{FREE}\n"),
        ("other ALL=(ALL) ALL\n", f"other ALL=(ALL) ALL\n{FREE}\n"),
        (f"{ASKED}\nother ALL=(ALL) ALL\n", f"{FREE}\nother ALL=(ALL) ALL\n"),
        (f"{FREE}\n{ASKED}\n{FREE}\n", f"{FREE}\n"),
        ("azureuser   ALL=(ALL)  NOPASSWD:  ALL\n", f"{FREE}\n"),
        (
            f"azureuser2 ALL=(ALL) ALL\nxazureuser ALL=(ALL) ALL\n# {ASKED}\n",
            f"azureuser2 ALL=(ALL) ALL\nxazureuser ALL=(ALL) ALL\n# {ASKED}\n{FREE}\n",
        ),
        (f"azureuser ALL=(root) /bin/ls\n{ASKED}", f"azureuser ALL=(root) /bin/ls\n{FREE}"),
        (f"other ALL=(ALL) /bin/ls, \\\n{ASKED}\n", f"other ALL=(ALL) /bin/ls, \\\n{ASKED}\n{FREE}\n"),
        ("other ALL=(ALL) ALL \\\n", f"other ALL=(ALL) ALL \\\n\n{FREE}\n"),
    ],
)
def test_there_is_one_line_of_ours_and_no_other_line_is_touched(root: Path, before: str, after: str) -> None:
    target(root).write_text(before)
    without_visudo = tools_in(())
    assert perform(grant_sudo, WITHOUT, root, without_visudo).changes
    assert target(root).read_text() == after
    assert stat.S_IMODE(target(root).stat().st_mode) == 0o440
    assert perform(grant_sudo, WITHOUT, root, without_visudo).changes == ()
    perform(grant_sudo, WITH, root, without_visudo)
    assert target(root).read_text() == after.replace(FREE, ASKED)
    assert leftovers(root) == []


def test_a_file_that_others_may_write_is_replaced(root: Path) -> None:
    target(root).write_text(f"{FREE}\n")
    target(root).chmod(0o660)
    assert [change.mode for change in perform(grant_sudo, WITHOUT, root).changes] == [0o440]


@pytest.mark.skipif(tools_in().find("visudo") == "", reason="there is no visudo here")
def test_what_visudo_refuses_never_takes_effect(root: Path) -> None:
    target(root).write_text("this is no sudoers line\n")
    with pytest.raises(CommitError, match="visudo refuses the new sudoers file, the old one stays: ") as failure:
        perform(grant_sudo, WITHOUT, root)
    assert not failure.value.changed
    assert target(root).read_text() == "this is no sudoers line\n"
    assert leftovers(root) == []


@pytest.mark.parametrize(
    "name", ["ALL", "Defaults", "a b", "%sudo", "x,y", "#0", "a\nb", "User_Alias", "+netgroup", "x" * 33]
)
def test_a_name_that_sudoers_reads_otherwise_is_refused(root: Path, name: str) -> None:
    with pytest.raises(CommitError, match="not a name"):
        perform(grant_sudo, CommitSudo(name, without_password=True, paths=PATHS), root)
    assert not target(root).exists()


def test_a_missing_folder_is_made_and_included_once(root: Path) -> None:
    (root / "etc/sudoers.d").rmdir()
    main_file = root / "etc/sudoers"
    main_file.write_text(MAIN)
    main_file.chmod(0o440)
    committed = perform(grant_sudo, WITHOUT, root)
    assert {change.path: change.mode for change in committed.changes} == {
        "/etc/sudoers": 0o440,
        "/etc/sudoers.d": 0o750,
        "/etc/sudoers.d/waagent": 0o440,
    }
    # Killed between the include and the folder: done again, the include stays one.
    shutil.rmtree(root / "etc/sudoers.d")
    perform(grant_sudo, WITHOUT, root)
    assert main_file.read_text() == f"{MAIN}\n#includedir /etc/sudoers.d\n"


@pytest.mark.parametrize(
    ("line", "included"),
    [
        ("#includedir /etc/sudoers.d", True),
        ("@includedir /etc/sudoers.d", True),
        ("  @includedir\t/etc/sudoers.d/  # ours", True),
        ('@includedir "/etc/sudoers.d"', True),
        ("@includedir sudoers.d", True),
        ("# includedir /etc/sudoers.d", False),
        ("#includedir /etc/sudoers.d2", False),
        ("#include /etc/sudoers.d", False),
        ("", False),
    ],
)
def test_present_forms_of_the_include_are_known(line: str, included: bool) -> None:
    assert is_included(f"{MAIN}\n{line}\n", "/etc/sudoers", "/etc/sudoers.d") is included


def test_a_folder_that_nobody_includes_is_told_and_left_so(root: Path) -> None:
    (root / "etc/sudoers").write_text(f"{MAIN}\n")
    assert perform(grant_sudo, WITHOUT, root).fact.endswith("; /etc/sudoers does not itself include /etc/sudoers.d")
    assert (root / "etc/sudoers").read_text() == f"{MAIN}\n"


def test_without_sudo_the_line_is_written_and_the_lack_told(root: Path) -> None:
    (root / "etc/sudoers").unlink()
    (root / "etc/sudoers.d").rmdir()
    assert "sudo is not installed" in perform(grant_sudo, WITHOUT, root, tools_in(())).fact
    assert target(root).read_text() == f"{FREE}\n"
    assert not (root / "etc/sudoers").exists()


@pytest.mark.root
def test_sudo_itself_asks_for_the_password_or_not() -> None:
    with Lab() as lab, Committers(lab) as committers:
        committers.commit(CommitAccount("azureuser", "/home/azureuser", 1000))
        for order, asked in ((WITH, True), (WITHOUT, False), (WITH, True)):
            committers.commit(order)
            verdict = lab.run(["setpriv", "--reuid=azureuser", "--init-groups", "sudo", "-n", "id", "-u"])
            assert (verdict.returncode != 0, "a password is required" in verdict.stderr) == (asked, asked)
            assert asked or verdict.stdout == "0\n"
        assert lab.run(["visudo", "-c"]).returncode == 0
