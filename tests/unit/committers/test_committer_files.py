# SPDX-License-Identifier: Apache-2.0
"""The committers of host name, root lock, sshd and host keys, on real files and with the real tools."""

import fcntl
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from ipc.errors import CommitError
from ipc.messages import (
    CommitHostName,
    CommitPaths,
    CommitRootLock,
    CommitSshd,
    InstallHostKeys,
    MakeHostKeys,
    ReadHostKeys,
)
from tests.unit.committers.apart import CLONE_NEWNS, CLONE_NEWUTS, apart
from tests.unit.committers.programs_here import FOLDERS, perform, tools_in
from workers.committers import root_lock
from workers.committers.account_lock import account_lock
from workers.committers.host_keys import install_keys, make_keys, read_keys
from workers.committers.hostname import set_host_name
from workers.committers.root_lock import lock_root
from workers.committers.sshd import configure_sshd
from workers.committers.tools import Tools

PATHS = CommitPaths()
SSHD_OFF = CommitSshd(False, 180, PATHS)
DROP_IN = "etc/ssh/sshd_config.d/50-agent-supervisor.conf"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("etc/sudoers.d", "etc/ssh"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def program(folder: Path, name: str, script: str) -> Tools:
    """The usual programs, with one of this name before them."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return tools_in((str(folder), *FOLDERS))


def leftovers(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if "agent-supervisor" in path.name and path.name.startswith(".")]


# --- host name ---


@pytest.mark.root
def test_the_host_name_is_kept_and_in_force() -> None:
    def body() -> None:
        committed = perform(set_host_name, CommitHostName("vm1.example"))
        assert os.uname().nodename == "vm1.example"
        assert Path("/etc/hostname").read_text() == "vm1.example\n"
        assert [(change.path, change.mode) for change in committed.changes] == [("/etc/hostname", 0o644)]
        assert perform(set_host_name, CommitHostName("vm1.example")).changes == ()

    apart(body, namespaces=CLONE_NEWNS | CLONE_NEWUTS)


@pytest.mark.root
def test_a_host_name_that_can_not_be_kept_is_not_set() -> None:
    def body() -> None:
        before = os.uname().nodename
        subprocess.run(["mount", "-o", "remount,ro", "/etc"], check=True)
        with pytest.raises(CommitError, match="Read-only file system") as failure:
            perform(set_host_name, CommitHostName("vm1"))
        assert not failure.value.changed
        assert os.uname().nodename == before

    apart(body, namespaces=CLONE_NEWNS | CLONE_NEWUTS)


# --- root lock ---


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"daemon:*:1::::::\nroot:$6$a$b:19000:0:99999:7:::\n", b"daemon:*:1::::::\nroot:*LOCK*:19000:0:99999:7:::\n"),
        (b"root::1::::::\nroot:x:2::::::\nsys:*:1::::::\n", b"root:*LOCK*:1::::::\nsys:*:1::::::\n"),
        (b"rooty:*:1::::::\n", b"root:*LOCK*:14600::::::\nrooty:*:1::::::\n"),
        (b"root:broken\n", b"root:*LOCK*:14600::::::\n"),
    ],
)
def test_root_is_locked_and_nobody_else(before: bytes, after: bytes) -> None:
    assert root_lock.locked(before) == after
    assert root_lock.locked(after) == after


@pytest.mark.root
def test_the_shadow_file_keeps_mode_owner_and_attributes(root: Path) -> None:
    shadow = root / "etc/shadow"
    shadow.write_text("root:$6$a$b:19000:0:99999:7:::\n")
    os.chown(shadow, 0, 42)
    shadow.chmod(0o640)
    os.setxattr(shadow, "user.label", b"kept")
    committed = perform(lock_root, CommitRootLock(PATHS), root)
    assert [(change.mode, change.uid, change.gid) for change in committed.changes] == [(0o640, 0, 42)]
    assert os.getxattr(shadow, "user.label") == b"kept"
    assert perform(lock_root, CommitRootLock(PATHS), root).changes == ()
    assert leftovers(root) == []


def test_root_is_locked_under_the_lock_of_the_account_tools(root: Path) -> None:
    (root / "etc/shadow").write_text("root:$6$a$b:1::::::\n")
    ready, go = os.pipe(), os.pipe()
    holder = os.fork()
    if holder == 0:
        with (root / "etc/.pwd.lock").open("w") as file:
            fcntl.lockf(file, fcntl.LOCK_EX)
            os.write(ready[1], b"x")
            os.read(go[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    lock = account_lock(root / "etc/.pwd.lock", 0.1)
    with pytest.raises(CommitError, match="locked by another program"):
        lock.__enter__()
    os.write(go[1], b"x")
    assert perform(lock_root, CommitRootLock(PATHS), root).fact == "root's password locked"
    os.waitpid(holder, 0)
    for end in (*ready, *go):
        os.close(end)


def test_a_shadow_file_that_is_a_link_or_none_is_not_written(root: Path) -> None:
    (root / "etc/elsewhere").write_text("root:$6$a$b:1::::::\n")
    (root / "etc/shadow").symlink_to("elsewhere")
    with pytest.raises(CommitError, match="/etc/shadow: is a link") as failure:
        perform(lock_root, CommitRootLock(PATHS), root)
    assert not failure.value.changed
    with pytest.raises(CommitError, match=r"/etc/other, which OS\.PasswordPath names, does not exist"):
        perform(lock_root, CommitRootLock(CommitPaths(shadow="/etc/other")), root)


def test_the_shadow_file_may_be_elsewhere(root: Path) -> None:
    (root / "etc/shadow").write_text("root:$6$a$b:1::::::\n")
    elsewhere = root / "var/lib/extrausers/shadow"
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_text("root:$6$a$b:1::::::\n")
    perform(lock_root, CommitRootLock(CommitPaths(shadow="/var/lib/extrausers/shadow")), root)
    assert elsewhere.read_text() == "root:*LOCK*:1::::::\n"
    assert (root / "etc/shadow").read_text() == "root:$6$a$b:1::::::\n"


@pytest.mark.parametrize("field", ["", "$6$a$b"])
def test_a_root_password_outside_the_shadow_file_is_told(root: Path, field: str) -> None:
    (root / "etc/shadow").write_text("root:$6$a$b:1::::::\n")
    (root / "etc/passwd").write_text(f"root:{field}:0:0::/root:/bin/sh\n")
    with pytest.raises(CommitError, match="root's password stands in /etc/passwd") as failure:
        perform(lock_root, CommitRootLock(PATHS), root)
    assert not failure.value.changed
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    assert perform(lock_root, CommitRootLock(PATHS), root).fact == "root's password locked"


# --- sshd ---


def test_without_sshd_config_nothing_is_written(root: Path) -> None:
    committed = perform(configure_sshd, SSHD_OFF, root, tools_in(()))
    assert committed.changes == ()
    assert "nothing to configure" in committed.fact


def test_a_drop_in_where_sshd_config_includes_them(root: Path) -> None:
    config = root / "etc/ssh/sshd_config"
    config.write_text("# comment\nInclude /etc/ssh/sshd_config.d/*.conf\nPasswordAuthentication yes\n")
    (root / "etc/ssh/sshd_config.d").mkdir()
    before = config.read_text()
    committed = perform(configure_sshd, SSHD_OFF, root, tools_in(()))
    assert (root / DROP_IN).read_text().splitlines()[1:] == [
        "PasswordAuthentication no",
        "ChallengeResponseAuthentication no",
        "ClientAliveInterval 180",
    ]
    assert [(change.path, change.mode) for change in committed.changes] == [(f"/{DROP_IN}", 0o644)]
    assert config.read_text() == before
    assert perform(configure_sshd, SSHD_OFF, root, tools_in(())).changes == ()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "PasswordAuthentication no\nChallengeResponseAuthentication no\nClientAliveInterval 180\n"),
        (
            "#PasswordAuthentication yes\n  passwordauthentication yes\nKbdInteractiveAuthentication yes\n"
            "Match User a\n  PasswordAuthentication yes\n",
            "#PasswordAuthentication yes\npasswordauthentication no\nKbdInteractiveAuthentication no\n"
            "ClientAliveInterval 180\nMatch User a\n  PasswordAuthentication yes\n",
        ),
        (
            "Match User a\nPasswordAuthentication yes\nMatch all\nPasswordAuthentication yes\nX11Forwarding no\n",
            "ChallengeResponseAuthentication no\nClientAliveInterval 180\n"
            "Match User a\nPasswordAuthentication yes\nMatch all\nPasswordAuthentication no\nX11Forwarding no\n",
        ),
        (
            "Match User a\nInclude /etc/ssh/sshd_config.d/*.conf\n",
            "PasswordAuthentication no\nChallengeResponseAuthentication no\nClientAliveInterval 180\n"
            "Match User a\nInclude /etc/ssh/sshd_config.d/*.conf\n",
        ),
    ],
)
def test_sshd_config_is_edited_outside_match_blocks(root: Path, before: str, after: str) -> None:
    config = root / "etc/ssh/sshd_config"
    config.write_text(before)
    config.chmod(0o600)
    (root / "etc/ssh/sshd_config.d").mkdir()
    committed = perform(configure_sshd, SSHD_OFF, root, tools_in(()))
    assert config.read_text() == after
    assert [change.mode for change in committed.changes] == [0o600]
    assert perform(configure_sshd, SSHD_OFF, root, tools_in(())).changes == ()


def test_passwords_left_on_by_an_earlier_file_are_an_error_and_off_is_told(root: Path) -> None:
    (root / "etc/ssh/sshd_config").write_text("Include sshd_config.d/*.conf\n")
    folder = root / "etc/ssh/sshd_config.d"
    folder.mkdir()
    first = folder / "01-image.conf"
    first.write_text("Match User a\nPasswordAuthentication no\nMatch all\nPasswordAuthentication yes\n")
    with pytest.raises(CommitError, match=r"01-image\.conf sets PasswordAuthentication yes") as failure:
        perform(configure_sshd, SSHD_OFF, root, tools_in(()))
    assert failure.value.changed
    first.write_text("passwordauthentication=no\n")
    fact = perform(configure_sshd, CommitSshd(True, 180, PATHS), root, tools_in(())).fact
    assert "01-image.conf keeps PasswordAuthentication no" in fact


@pytest.mark.parametrize("drop_in", [True, False])
def test_settings_that_sshd_refuses_are_taken_back(root: Path, tmp_path: Path, drop_in: bool) -> None:
    config = root / "etc/ssh/sshd_config"
    config.write_text("Include /etc/ssh/sshd_config.d/*.conf\n" if drop_in else "Port 22\n")
    (root / "etc/ssh/sshd_config.d").mkdir()
    before = config.read_text()
    tools = program(
        tmp_path / "bin", "sshd", f"! grep -rq 'ClientAliveInterval 180' {root}/etc/ssh || {{ echo bad; false; }}"
    )
    with pytest.raises(CommitError, match="sshd refuses the settings") as failure:
        perform(configure_sshd, SSHD_OFF, root, tools)
    assert not failure.value.changed
    assert config.read_text() == before
    assert not (root / DROP_IN).exists()


def test_an_sshd_that_refused_before_has_no_say(root: Path, tmp_path: Path) -> None:
    (root / "etc/ssh/sshd_config").write_text("Port 22\n")
    tools = program(tmp_path / "bin", "sshd", "echo no hostkeys available; exit 1")
    assert perform(configure_sshd, SSHD_OFF, root, tools).changes


# --- host keys ---


def staging(root: Path) -> str:
    return f"{root}/etc/ssh/.staging"


def ssh_keys(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.glob("ssh_host_*")}


@pytest.mark.parametrize("key_type", ["rsa", "dsa", "ecdsa", "ed25519", "auto"])
def test_host_keys_are_made_then_installed(root: Path, key_type: str) -> None:
    ssh_dir = root / "etc/ssh"
    for name in ("ssh_host_rsa_key", "ssh_host_rsa_key.pub", "ssh_host_dsa_key-cert.pub"):
        (ssh_dir / name).write_text("old")
    made = perform(make_keys, MakeHostKeys(key_type, staging(root), fresh=False))
    assert (ssh_dir / "ssh_host_rsa_key").read_text() == "old"
    assert perform(make_keys, MakeHostKeys(key_type, staging(root), fresh=False)).host_keys == made.host_keys
    request = InstallHostKeys(staging(root), str(ssh_dir))
    installed = perform(install_keys, request)
    types = ["ecdsa", "ed25519", "rsa"] if key_type == "auto" else [key_type]
    expected = {f"ssh_host_{each}_key": 0o600 for each in types} | {f"ssh_host_{each}_key.pub": 0o644 for each in types}
    assert ssh_keys(ssh_dir) == expected
    assert installed.host_keys == made.host_keys == perform(read_keys, ReadHostKeys(str(ssh_dir))).host_keys
    for each, key in zip(types, made.host_keys, strict=True):
        shown = subprocess.run(
            ["ssh-keygen", "-lf", str(ssh_dir / f"ssh_host_{each}_key")], check=True, capture_output=True, text=True
        )
        bits, fingerprint, *_, kind = shown.stdout.split()
        assert (str(key.bits), f"SHA256:{key.sha256}", f"({key.algorithm.upper()})") == (bits, fingerprint, kind)
        assert f"{key.public}\n" == (ssh_dir / f"ssh_host_{each}_key.pub").read_text()
    assert perform(install_keys, request).changes == ()
    assert sorted(path.name for path in ssh_dir.iterdir()) == sorted(expected)


@pytest.mark.parametrize("done", range(4))
def test_an_install_killed_between_two_keys_is_finished(root: Path, done: int) -> None:
    ssh_dir = root / "etc/ssh"
    perform(make_keys, MakeHostKeys("ed25519", staging(root), fresh=False))
    shutil.copytree(staging(root), f"{root}/copy")
    names = sorted(path.name for path in Path(staging(root)).iterdir())
    for name in names[:done]:
        shutil.copy2(Path(staging(root)) / name, ssh_dir / name)
    if done > 2:
        Path(staging(root)).rename(f"{staging(root)}.installed")
        (Path(f"{staging(root)}.installed") / names[0]).unlink()
    perform(install_keys, InstallHostKeys(staging(root), str(ssh_dir)))
    assert [path.name for path in sorted(ssh_dir.iterdir())] == names
    for name in names:
        assert (ssh_dir / name).read_bytes() == Path(f"{root}/copy/{name}").read_bytes()


def test_a_making_that_was_killed_begins_anew(root: Path) -> None:
    making = Path(f"{staging(root)}.making")
    (making / "etc/ssh").mkdir(parents=True)
    (making / "etc/ssh/ssh_host_rsa_key").write_text("half")
    perform(make_keys, MakeHostKeys("ed25519", staging(root), fresh=False))
    assert not making.exists()
    assert "ssh_host_rsa_key" not in ssh_keys(Path(staging(root)))


def test_no_host_key_goes_before_new_ones_are_there(root: Path, tmp_path: Path) -> None:
    old = root / "etc/ssh/ssh_host_rsa_key"
    old.write_text("old")
    with pytest.raises(CommitError, match="is not there"):
        perform(install_keys, InstallHostKeys(staging(root), f"{root}/etc/ssh"))
    tools = program(tmp_path / "bin", "ssh-keygen", "echo unknown key type dsa >&2; exit 255")
    with pytest.raises(CommitError, match=r"Provisioning\.SshHostKeyPairType .* status 255: unknown key type dsa"):
        perform(make_keys, MakeHostKeys("dsa", staging(root), fresh=False), tools=tools)
    assert old.read_text() == "old"


def test_of_the_keys_that_an_image_keeps_only_public_halves_are_read(root: Path) -> None:
    ssh_dir = root / "etc/ssh"
    request = ReadHostKeys("/etc/ssh")
    assert perform(read_keys, request, root).host_keys == ()
    (ssh_dir / "ssh_host_ed25519_key").mkdir()
    public = f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{'A' * 43}"
    (ssh_dir / "ssh_host_ed25519_key.pub").write_text(f"{public}\n")
    read = perform(read_keys, request, root)
    assert [(key.algorithm, key.bits, key.public) for key in read.host_keys] == [("ed25519", 256, public)]
    assert read.changes == ()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "ssh-rsa",
        "ssh-rsa AAAA",
        "ssh-new AAAAB3NzaC1yc2E=",
        f"ssh-rsa AAAAB3NzaC1yc2E {'x' * 4096}",
        "ssh-rsa ====",
        "\0",
    ],
)
def test_a_public_half_that_no_ssh_keygen_wrote_is_refused(root: Path, content: str) -> None:
    (root / "etc/ssh/ssh_host_rsa_key.pub").write_text(content)
    read = perform(read_keys, ReadHostKeys("/etc/ssh"), root)
    assert read.host_keys == ()
    assert read.fact == "/etc/ssh/ssh_host_rsa_key.pub holds no public key of a known kind, in one line"
