# SPDX-License-Identifier: Apache-2.0
"""Accounts of every kind through the whole agent: who is there already, who has no password, whose home is elsewhere;
and what sshd, sudo and a policy of labels make of the outcome."""

import subprocess
from pathlib import Path

import pytest

from tests.fabric.image_sshd import sshd_files
from tests.fabric.lab import Lab, PlacedFile
from tests.fabric.media import make_ovf
from tests.fabric.scene import CONFIG, KEY, Wanted
from tests.fabric.udf_writer import make_udf
from tests.fabric.vm import QUICK, Vm, booted
from tests.fabric.waiting import until

pytestmark = pytest.mark.root

PASSWORD = "Correct-Horse-7-Battery"
FAILED = "NotReady ProvisioningFailed"
NOBODYS_FAULT = "; nothing was changed"


def with_account(line: str, password: str = "!") -> dict[str, PlacedFile]:
    """An image that has this account."""
    name = line.partition(":")[0]
    return {
        "/etc/passwd": PlacedFile(Path("/etc/passwd").read_bytes() + f"{line}\n".encode()),
        "/etc/shadow": PlacedFile(Path("/etc/shadow").read_bytes() + f"{name}:{password}:1::::::\n".encode(), 0o640),
    }


def line_of(vm: Vm, path: str, name: str) -> list[str]:
    """The fields of the account's one line in a file."""
    (line,) = [line for line in vm.lab.read(path).decode().splitlines() if line.startswith(f"{name}:")]
    return line.split(":")


@pytest.fixture(scope="module")
def key_pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A key pair of the tenant's: private half, public line."""
    path = tmp_path_factory.mktemp("keys") / "id"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "me", "-f", str(path)], check=True)
    return path.read_text(), path.with_name("id.pub").read_text().strip()


def logs_in(lab: Lab, user: str, *options: str) -> subprocess.CompletedProcess[str]:
    """What comes of `user` logging in by ssh to say its name, as root's answer to sudo goes."""
    words = "ssh -F none -p 2222 -i /run/id -o BatchMode=yes -o StrictHostKeyChecking=no".split()
    return lab.run([*words, *options, f"{user}@127.0.0.1", "id -un; sudo -n id -un"])


def test_without_a_password_a_real_sshd_lets_the_key_in_and_no_password(key_pair: tuple[str, str]) -> None:
    """All types of host keys, an image's sshd that has never run; the account's line in shadow is locked."""
    private, public = key_pair
    wanted = Wanted(password=None, keys=(public,), disable_password=True)
    with booted(wanted, CONFIG, image=sshd_files()) as vm:
        vm.boot(wanted.medium())
        vm.scene.wait_until_ready()
        assert vm.mistakes() == []
        assert line_of(vm, "/etc/shadow", "azureuser")[1].startswith("!")
        vm.lab.output("mkdir", "-p", "/run/sshd")  # as its service does
        assert vm.lab.run(["/usr/sbin/sshd", "-t"]).stderr == ""
        shown = vm.lab.output("/usr/sbin/sshd", "-T").splitlines()
        assert {"passwordauthentication no", "kbdinteractiveauthentication no", "clientaliveinterval 180"} <= {*shown}
        assert "sshd refuses its configuration" not in vm.scene.log()
        assert [change.path for change in vm.lab.changed() if "check-key" in change.path] == []
        assert "labels" not in vm.scene.log()  # without SELinux nobody is asked
        vm.lab.path("/run/id").write_text(private)
        vm.lab.path("/run/id").chmod(0o600)
        vm.lab.path("/run/sshd.log").touch()
        vm.lab.popen("/usr/sbin/sshd -D -e -p 2222 -E /run/sshd.log -o ListenAddress=127.0.0.1".split())
        until("sshd listens", lambda: "Server listening" in vm.lab.path("/run/sshd.log").read_text())
        inside = logs_in(vm.lab, "azureuser")
        assert (inside.stdout, inside.returncode) == ("azureuser\nroot\n", 0), inside.stderr
        refused = logs_in(vm.lab, "azureuser", "-o", "PreferredAuthentications=password,keyboard-interactive")
        assert "Permission denied (publickey)" in refused.stderr


def test_an_account_that_is_there_keeps_its_home_and_gets_password_sudo_and_keys() -> None:
    """Its home is on a file system of its own, behind a link of root's; sudo knew it without a password before."""
    image = with_account("alice:x:1200:100:Alice:/people/alice:/bin/bash") | {
        "/etc/sudoers.d/waagent": PlacedFile(b"alice2 ALL=(ALL) ALL\nalice ALL=(ALL) NOPASSWD: ALL\n", 0o440),
    }
    ovf = make_ovf("alice", PASSWORD, "vm1", [KEY], key_path="$HOME/alice/.ssh/authorized_keys")
    with booted(image=image) as vm:
        script = "mkdir /srv/disk && mount -t tmpfs -o mode=755 none /srv/disk && ln -s /srv/disk /people"
        vm.lab.output("sh", "-ec", f"{script}; install -d -o 1200 -g 100 -m 755 /people/alice")
        vm.lab.output(
            "sh", "-ec", "cd /srv/disk/alice; mkdir .ssh; printf '# mine' >.ssh/authorized_keys; chown -R 1200 .ssh"
        )
        vm.boot(make_udf(ovf))
        vm.scene.wait_until_ready()
        assert line_of(vm, "/etc/passwd", "alice") == "alice x 1200 100 Alice /people/alice /bin/bash".split()
        assert line_of(vm, "/etc/shadow", "alice")[1].startswith("$6$")
        assert vm.lab.read("/etc/sudoers.d/waagent") == b"alice2 ALL=(ALL) ALL\nalice ALL=(ALL) ALL\n"
        assert vm.lab.read("/people/alice/.ssh/authorized_keys").decode() == f"# mine\n{KEY}\n"
        facts = vm.lab.output("stat", "-c", "%a %u", "/people/alice/.ssh", "/people/alice/.ssh/authorized_keys")
        assert facts.splitlines() == ["700 1200", "600 1200"]
        assert not vm.lab.path("/home/alice").exists()


@pytest.mark.parametrize("allowed", [False, True])
def test_a_system_account_gets_a_password_only_where_the_option_says_so(allowed: bool) -> None:
    image = with_account("core:x:500:500::/home/core:/bin/bash")
    config = QUICK + b"Provisioning.AllowResetSysUser=y\n" * allowed
    with booted(config=config, image=image) as vm:
        vm.lab.output("install", "-d", "-o", "500", "-g", "500", "/home/core")
        vm.boot(make_udf(make_ovf("core", PASSWORD, "vm1", [KEY])))
        if allowed:
            vm.scene.wait_until_ready()
            assert line_of(vm, "/etc/shadow", "core")[1].startswith("$6$")
            return
        reason = "ovf-env.xml, UserPassword: is for a system account, uid 500 below 1000; that takes "
        report = vm.wait_until_decided()
        assert f"{reason}Provisioning.AllowResetSysUser=y{NOBODYS_FAULT}" in report
        assert [path for path in vm.applied() if not path.startswith("/home/core")] == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("admin:x:0:0::/root:/bin/bash", "UserName: is another name of root"),
        ("www:x:33:33::/var/www:/usr/sbin/nologin", "UserName: is the account of a daemon, uid 33"),
        (
            "lost:x:1200:100::/people/lost:/bin/bash",
            "SSH keys .ssh/authorized_keys (PublicKey/Path): the account's home",
        ),
    ],
)
def test_an_account_that_is_not_fit_for_it_is_told(line: str, words: str) -> None:
    name = line.partition(":")[0]
    with booted(image=with_account(line)) as vm:
        vm.boot(make_udf(make_ovf(name, None, "vm1", [KEY])))
        report = vm.wait_until_decided()
        assert report.startswith(FAILED)
        assert words in report
        assert ("; this step changed nothing; " if name == "lost" else NOBODYS_FAULT) in report


def test_homes_sudo_and_shadow_may_be_elsewhere() -> None:
    """A home on a file system of its own, prepared in the image; a folder of sudo's that is still to be made."""
    config = QUICK + b"OS.HomeDir=/data/homes\nOS.SudoersDir=/etc/own/sudoers.d\nOS.PasswordPath=/etc/own/shadow\n"
    image = {
        "/etc/own/shadow": PlacedFile(b"root:$6$a$b:1::::::\n", 0o640),
        "/etc/own/sudoers": PlacedFile(b"root ALL=(ALL:ALL) ALL\n", 0o440),
    }
    with booted(config=config, image=image) as vm:
        script = "mkdir -p /data/homes/azureuser && mount -t tmpfs -o mode=755 none /data/homes/azureuser"
        vm.lab.output("sh", "-ec", f"{script}; mkdir -m 700 /data/homes/azureuser/lost+found")
        vm.boot(make_udf(make_ovf("azureuser", None, "vm1", [KEY], key_path="$HOME/azureuser/.ssh/authorized_keys")))
        vm.scene.wait_until_ready()
        passwd = line_of(vm, "/etc/passwd", "azureuser")
        assert passwd[5] == "/data/homes/azureuser"
        home = vm.lab.path("/data/homes/azureuser")
        assert (home.stat().st_uid, (home / ".bashrc").stat().st_uid) == (int(passwd[2]), int(passwd[2]))
        assert vm.lab.read("/data/homes/azureuser/.ssh/authorized_keys").decode() == f"{KEY}\n"
        assert vm.lab.read("/etc/own/sudoers").endswith(b"\n#includedir /etc/own/sudoers.d\n")
        assert vm.lab.output("stat", "-c", "%a", "/etc/own/sudoers.d", "/etc/own/sudoers.d/waagent") == "750\n440\n"
        assert vm.lab.read("/etc/own/shadow") == b"root:*LOCK*:1::::::\n"


def test_homes_where_policy_lets_none_be_made_are_told_before_anything_is() -> None:
    with booted(config=QUICK + b"OS.HomeDir=/people\n") as vm:
        vm.boot(make_udf(make_ovf("azureuser", PASSWORD, "vm1")))
        report = vm.wait_until_decided()
        assert (
            "account (UserName, OS.HomeDir): /people/azureuser can't be made: OS.HomeDir may be /home, /srv" in report
        )
        assert "; this step changed nothing; " in report
        assert vm.applied() == ["/etc/hostname"]


RESTORECON = r"""#!/bin/sh
# Marks what it is to label by a time of its own; says what it was told.
[ "$1 $2 $3" = "-i -F --" ] || { echo "unexpected $1 $2 $3" >&2; exit 1; }
shift 3
touch -c -h -d @1000000000 -- "$@"
"""
LABELLED = "1000000000"


def plant_selinux(lab: Lab) -> None:
    """A kernel that shows SELinux in /sys."""
    steps = (
        "mkdir -p /run/cgroup /run/fs/selinux /run/work; echo 1 >/run/fs/selinux/enforce",
        "mount -n --rbind /sys/fs/cgroup /run/cgroup",
        "mount -n -t overlay -o lowerdir=/run/fs:/sys/fs none /sys/fs",
        "mount -n --rbind /run/cgroup /sys/fs/cgroup",
    )
    lab.output("sh", "-ec", "; ".join(steps))


def test_where_selinux_is_on_all_that_was_written_is_labelled() -> None:
    with booted(image={"/usr/sbin/restorecon": PlacedFile(RESTORECON.encode(), 0o755)}) as vm:
        plant_selinux(vm.lab)
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        assert "labels: done | " in vm.scene.log()
        assert "paths, all that are there have the labels that the system's policy names" in vm.scene.log()
        # What comes after: the agent's own, in folders that were labelled, and what the kernel's clock touches.
        ours = ("/var/lib/agent-supervisor", "/var/lib/waagent", "/var/log/")
        written = [change.path for change in vm.lab.changed() if change.kind != "deleted"]
        shown = vm.lab.output("stat", "-c", "%Y %n", "--", *written).splitlines()
        late = [line for line in shown if not line.startswith(LABELLED) and not line.split()[1].startswith(ours)]
        folders = {str(Path(path).parent) for path in written}
        assert [line for line in late if line.split()[1] not in folders] == []
        labelled = {line.split()[1] for line in shown if line.startswith(LABELLED)}
        home = "/home/azureuser"
        wanted = {
            home,
            f"{home}/.bashrc",
            f"{home}/.ssh",
            f"{home}/.ssh/authorized_keys",
            "/etc/shadow",
            "/etc/hostname",
        }
        assert wanted | {"/etc/sudoers.d/waagent", "/etc/ssh/ssh_host_ed25519_key"} <= labelled


def test_without_restorecon_that_is_said() -> None:
    with booted() as vm:
        plant_selinux(vm.lab)
        vm.boot(vm.wanted.medium())
        vm.scene.wait_until_ready()
        assert "SELinux is on, and there is no restorecon: " in vm.scene.log()
        assert vm.mistakes() == []
