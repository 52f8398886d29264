# SPDX-License-Identifier: Apache-2.0
"""What the supervisor finds out by itself, from files as systems have them."""

import os
from pathlib import Path

import pytest

from ipc.messages import AccountFacts
from supervisor import facts


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "dev").mkdir()
    for home, content in (("ours", "own.txt"), ("bare", ".bashrc")):
        (tmp_path / "home" / home).mkdir(parents=True)
        (tmp_path / "home" / home / content).touch()
    (tmp_path / "etc/skel").mkdir()
    (tmp_path / "etc/skel/.bashrc").touch()
    (tmp_path / "etc/passwd").write_bytes(
        b"root:x:0:0:root:/root:/bin/sh\ncore:x:500:501:\xff:/var/home/core:/bin/sh\nbroken:x:1\n"
        b"bare:x:1003:1003::/home/bare:/bin/sh\n"
        b"ours:x:1000:1000::/home/ours:/bin/sh\nunfinished:x:1001:1001::/home/unfinished:/bin/sh\n"
        b"elsewhere:x:1002:1002::/srv/e:/bin/sh\n"
    )
    (tmp_path / "etc/login.defs").write_text("# UID_MIN 5\nUID_MIN\t\t 1000\nSYS_UID_MIN 100\n")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "exists", "uid", "gid", "home"),
    [
        ("core", True, 500, 501, "/var/home/core"),
        ("ours", True, 1000, 1000, "/home/ours"),
        ("unfinished", False, 1001, 1001, "/home/unfinished"),
        ("bare", False, 1003, 1003, "/home/bare"),
        ("elsewhere", True, 1002, 1002, "/srv/e"),
        ("broken", False, 0, 0, ""),
        ("cor", False, 0, 0, ""),
    ],
)
def test_accounts(root: Path, name: str, exists: bool, uid: int, gid: int, home: str) -> None:
    assert facts.account_facts(name, "/home/", str(root)) == AccountFacts(exists, uid, gid, home, 1000)


@pytest.mark.parametrize("content", [None, "UID_MIN many\n", ""])
def test_without_login_defs_the_limit_is_100(root: Path, content: str | None) -> None:
    (root / "etc/login.defs").unlink()
    if content is not None:
        (root / "etc/login.defs").write_text(content)
    assert facts.account_facts("core", "/home", str(root)).uid_min == 100


def test_accounts_with_a_workers_uid_are_found(root: Path) -> None:
    assert facts.accounts_within(range(1000, 1002), str(root)) == ["ours (1000)", "unfinished (1001)"]
    assert facts.accounts_within(range(60710, 61184), str(root)) == []


def test_media_are_those_of_the_list_in_a_stable_order(root: Path) -> None:
    for name in ("vdb1", "vdb", "vda", "sr1", "sr0", "sr10", "hdc", "hda", "cdrom", "cdrom0", "cd0", "sda", "zsr0"):
        (root / "dev" / name).touch()
    (root / "dev/sr2").mkdir()
    found = [Path(path).name for path in facts.media("auto", str(root))]
    assert found == ["sr0", "sr1", "sr10", "hdc", "cdrom0", "cd0", "vdb", "vdb1"]
    assert facts.media("/srv/ovf.iso", str(root)) == [f"{root}/srv/ovf.iso"]


NAME = "cloud-init-local.service"
WANTED = f"etc/systemd/system/cloud-init.target.wants/{NAME}"
REQUIRED = f"etc/systemd/system/multi-user.target.requires/{NAME}"
GENERATED = f"run/systemd/generator/cloud-init.target.wants/{NAME}"
OPENRC, SYSV = "etc/runlevels/boot/cloud-init-local", "etc/rc3.d/S02cloud-init"
# Links lead nowhere here, as they may on a real system when they are made early; a name with "=" is a file of that.
SWITCH, MASK, MASKED = (
    "etc/cloud/cloud-init.disabled",
    f"etc/systemd/system/{NAME}>/dev/null",
    f"etc/systemd/system/{NAME}=",
)
SYSTEMD, LINE_OFF = "run/systemd/system/x=", "proc/cmdline=root=/dev/sda1 cloud-init=disabled quiet\n"
LINE_ON, ANOTHER, OFF_LEVEL = (
    "proc/cmdline=ro cloud-init=disabled-not\n",
    "etc/rc3.d/K02cloud-init",
    "etc/rc6.d/S02cloud-init",
)


@pytest.mark.parametrize(
    ("there", "by"),
    [
        ((), ""),
        ((WANTED,), WANTED),
        ((REQUIRED,), REQUIRED),
        ((GENERATED,), GENERATED),
        ((WANTED, SWITCH), ""),
        ((WANTED, MASK), ""),
        ((WANTED, MASKED), ""),
        ((WANTED, LINE_OFF), ""),
        ((WANTED, LINE_ON), WANTED),
        ((OPENRC,), OPENRC),
        ((SYSV,), SYSV),
        ((ANOTHER, OFF_LEVEL), ""),
        ((OPENRC, SYSV, SYSTEMD), ""),
        ((WANTED, SYSTEMD), WANTED),
    ],
)
def test_whether_cloud_init_is_enabled(root: Path, there: tuple[str, ...], by: str) -> None:
    for each in there:
        name, _, content = each.partition("=")
        name, _, target = name.partition(">")
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if "=" in each:
            (root / name).write_text(content)
        else:
            (root / name).symlink_to(target or "/lib/systemd/system/none")
    assert facts.cloud_init_enabled(str(root)) == (by and f"/{by}")


@pytest.mark.root
@pytest.mark.parametrize(
    ("mode", "owner", "only_root"),
    [
        (0o644, 0, True),
        (0o600, 0, True),
        (0o664, 0, False),
        (0o646, 0, False),
        (0o622, 0, False),
        (0o644, 65534, False),
    ],
)
def test_who_may_write_a_file(tmp_path: Path, mode: int, owner: int, only_root: bool) -> None:
    file = tmp_path / "file"
    file.touch()
    file.chmod(mode)
    os.chown(file, owner, 65534)
    assert facts.only_root_writes("/file", str(tmp_path)) is only_root


def test_an_sshd_runs_if_a_process_has_its_name(root: Path) -> None:
    assert not facts.sshd_runs(str(root))
    for number, name in ((1, "systemd"), (77, "sshd-session"), (78, "sshd")):
        assert not facts.sshd_runs(str(root))
        (root / f"proc/{number}").mkdir(parents=True)
        (root / f"proc/{number}/comm").write_text(f"{name}\n")
    assert facts.sshd_runs(str(root))
