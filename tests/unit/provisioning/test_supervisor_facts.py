# SPDX-License-Identifier: Apache-2.0
"""What the supervisor finds out by itself, from files as systems have them."""

import os
from pathlib import Path

import pytest

from ipc.messages import AccountFacts
from supervisor import facts

UUID = "a1b2c3d4-e5f6-0718-293a-4b5c6d7e8f90"
SWAPPED = "D4C3B2A1-F6E5-1807-293A-4B5C6D7E8F90"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "dev").mkdir()
    (tmp_path / "home/ours").mkdir(parents=True)
    (tmp_path / "etc/passwd").write_bytes(
        b"root:x:0:0:root:/root:/bin/sh\ncore:x:500:501:\xff:/var/home/core:/bin/sh\nbroken:x:1\n"
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


def test_the_vm_id_is_put_in_the_hosts_byte_order(root: Path) -> None:
    folder = root / "sys/class/dmi/id"
    folder.mkdir(parents=True)
    (folder / "product_uuid").write_text(f"{UUID}\n")
    assert facts.vm_id(str(root)) == facts.VmId(SWAPPED)
    (folder / "product_uuid").write_text("Not Settable\n")
    assert facts.vm_id(str(root)).problem == "/sys/class/dmi/id/product_uuid holds no UUID"


def test_an_unreadable_vm_id_is_told(root: Path) -> None:
    assert facts.vm_id(str(root)) == facts.VmId("", "/sys/class/dmi/id/product_uuid: No such file or directory")


@pytest.mark.parametrize(
    ("stored", "current", "same"),
    [
        (SWAPPED, SWAPPED, True),
        (f"{SWAPPED.lower()}\n", SWAPPED, True),
        (UUID, SWAPPED, True),
        ("", SWAPPED, False),
        ("", "", False),
        (SWAPPED.replace("D4", "D5"), SWAPPED, False),
        ("odd", "odd", True),
    ],
)
def test_the_same_vm(stored: str, current: str, same: bool) -> None:
    assert facts.same_vm(stored, current) is same


def test_media_are_those_of_the_list_in_a_stable_order(root: Path) -> None:
    for name in ("vdb1", "vdb", "vda", "sr1", "sr0", "sr10", "hdc", "hda", "cdrom", "cdrom0", "cd0", "sda", "zsr0"):
        (root / "dev" / name).touch()
    (root / "dev/sr2").mkdir()
    found = [Path(path).name for path in facts.media("auto", str(root))]
    assert found == ["sr0", "sr1", "sr10", "hdc", "cdrom0", "cd0", "vdb", "vdb1"]
    assert facts.media("/srv/ovf.iso", str(root)) == [f"{root}/srv/ovf.iso"]


UNIT = "etc/systemd/system/cloud-init.target.wants/cloud-init-local.service"
GENERATED = "run/systemd/generator/cloud-init.target.wants/cloud-init-local.service"
SWITCH = "etc/cloud/cloud-init.disabled"


@pytest.mark.parametrize(
    ("enabled", "agent", "there", "why"),
    [
        (False, "waagent", (), "Provisioning.Enabled is n"),
        (False, "cloud-init", (UNIT,), "Provisioning.Enabled is n"),
        (True, "disabled", (), "Provisioning.Agent is disabled"),
        (True, "cloud-init", (), "cloud-init provisions this VM"),
        (True, "cloud-init", (UNIT, SWITCH), "cloud-init provisions this VM"),
        (True, "waagent", (UNIT, GENERATED), ""),
        (True, "auto", (), ""),
        (True, "auto", (SWITCH,), ""),
        (True, "auto", (UNIT,), "cloud-init provisions this VM"),
        (True, "auto", (GENERATED,), "cloud-init provisions this VM"),
        (True, "auto", (UNIT, SWITCH), ""),
    ],
)
def test_who_provisions(root: Path, enabled: bool, agent: str, there: tuple[str, ...], why: str) -> None:
    for name in there:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        # As systemctl makes them: a link, and where it leads need not be there.
        (root / name).symlink_to("/lib/systemd/system/none")
    assert facts.left_to_others(enabled, agent, str(root)) == why


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


def test_an_sshd_that_has_left_its_number_runs(root: Path) -> None:
    assert not facts.sshd_runs(str(root))
    (root / "run").mkdir()
    (root / "run/sshd.pid").write_text("1\n")
    assert facts.sshd_runs(str(root))


def test_the_boot_has_an_id_of_its_own() -> None:
    """From the kernel itself, which hands it out to small buffers only."""
    assert facts.UUID.fullmatch(facts.boot_id())
