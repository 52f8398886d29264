# SPDX-License-Identifier: Apache-2.0
"""The sshd committer before a real sshd, in a lab: what sshd says that it takes is what was asked for."""

import shutil
from collections.abc import Iterator

import pytest

from ipc.messages import CommitPaths, CommitSshd
from tests.fabric.image_sshd import sshd_files
from tests.fabric.lab import Lab
from tests.unit.committers.commit_here import Committers, Failed

pytestmark = pytest.mark.root

CONFIG, FOLDER = "/etc/ssh/sshd_config", "/etc/ssh/sshd_config.d"
DROP_IN = f"{FOLDER}/50-agent-supervisor.conf"
OFF = CommitSshd(False, 77, CommitPaths())
ON = CommitSshd(True, 77, CommitPaths())
INCLUDE = f"Include {FOLDER}/*.conf\n"
DONE = "sshd settings were set already"


@pytest.fixture(scope="module")
def image() -> Iterator[Committers]:
    """A machine at its first boot: sshd has neither run nor host keys."""
    with Lab(sshd_files()) as lab, Committers(lab) as committers:
        lab.output("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/run/key-of-the-test")
        yield committers


@pytest.fixture
def ssh(image: Committers) -> Committers:
    """The same with an empty folder for drop-ins, and sshd not yet configured."""
    shutil.rmtree(image.lab.path("/run/sshd"), ignore_errors=True)
    shutil.rmtree(image.lab.path("/etc/ssh"))
    image.lab.path(FOLDER).mkdir(parents=True)
    return image


def write(ssh: Committers, path: str, text: str) -> None:
    ssh.lab.path(path).write_bytes(text.encode())


def effective(ssh: Committers, config: str = CONFIG, *words: str) -> tuple[str, str, str]:
    """What sshd takes: password, keyboard-interactive, client alive interval."""
    shown = ssh.lab.output("/usr/sbin/sshd", "-T", "-f", config, "-h", "/run/key-of-the-test", *words)
    values = dict(line.split(" ", 1) for line in shown.splitlines() if " " in line)
    return values["passwordauthentication"], values["kbdinteractiveauthentication"], values["clientaliveinterval"]


# sshd_config before, and the file that the settings go to.
CASES = {
    "included": (INCLUDE + "PasswordAuthentication yes\n", DROP_IN),
    "included by a relative name, in capitals": ("INCLUDE sshd_config.d/*.conf # ours\n", DROP_IN),
    "included too late": (f"PasswordAuthentication yes\n{INCLUDE}", CONFIG),
    "included for some only": (f"Match User a\n{INCLUDE}", CONFIG),
    "included by an included file": ("Include /etc/ssh/more.conf\n", CONFIG),
    "nothing": ("", CONFIG),
    "no final newline": ("Port 22\nPasswordAuthentication yes", CONFIG),
    "CRLF": ("Port 22\r\nPasswordAuthentication yes\r\nMatch User a\r\n  X11Forwarding no\r\n", CONFIG),
    "equals signs and comments": ("passwordauthentication=yes # by the image\n#ClientAliveInterval 5\n", CONFIG),
    "both old and new names": ("KbdInteractiveAuthentication yes\nChallengeResponseAuthentication yes\n", CONFIG),
    "a Match block": ("Match User a\n  PasswordAuthentication yes\n", CONFIG),
    "Match all": ("Match User a\n  X11Forwarding no\nMatch all\nPasswordAuthentication yes\n", CONFIG),
    "twice": ("PasswordAuthentication yes\nPasswordAuthentication yes\n", CONFIG),
}


@pytest.mark.parametrize("case", CASES)
def test_sshd_takes_what_was_asked_for(ssh: Committers, case: str) -> None:
    before, target = CASES[case]
    write(ssh, "/etc/ssh/more.conf", INCLUDE)
    write(ssh, CONFIG, before)
    assert ssh.commit(OFF)[1] == [target]
    assert effective(ssh) == ("no", "no", "77")
    fact, paths = ssh.commit(OFF)
    assert (fact.startswith(DONE), paths) == (True, [])
    after = ssh.lab.path(CONFIG).read_bytes().decode()
    ours = ("passwordauth", "challengeresp", "kbdinteractive", "clientalive")
    kept = [line for line in before.splitlines(keepends=True) if not line.strip().lower().startswith(ours)]
    assert [line for line in after.splitlines(keepends=True) if line in kept] == kept
    assert ssh.commit(ON)[1] == [target]
    assert effective(ssh) == ("yes", "yes", "77")
    assert not list(ssh.lab.path("/etc/ssh").rglob(".*agent-supervisor*"))


def test_a_match_block_keeps_its_own_word(ssh: Committers) -> None:
    write(ssh, CONFIG, "Match User a\n  PasswordAuthentication yes\n")
    ssh.commit(OFF)
    assert effective(ssh)[0] == "no"
    assert effective(ssh, CONFIG, "-C", "user=a,host=h,addr=10.0.0.1")[0] == "yes"


def test_an_earlier_file_that_leaves_passwords_on_is_named(ssh: Committers) -> None:
    write(ssh, CONFIG, INCLUDE)
    write(ssh, f"{FOLDER}/01-image.conf", "PasswordAuthentication yes\n")
    with pytest.raises(Failed, match=r"01-image\.conf sets PasswordAuthentication yes before anything else can"):
        ssh.commit(OFF)
    write(ssh, f"{FOLDER}/01-image.conf", "PasswordAuthentication no\nClientAliveInterval 5\nUsePAM no\n")
    fact = ssh.commit(ON)[0]
    assert "01-image.conf keeps PasswordAuthentication no; " in fact
    assert "01-image.conf keeps ClientAliveInterval 5; with UsePAM no, sshd refuses accounts without" in fact


@pytest.mark.parametrize(("config", "target"), [(INCLUDE, DROP_IN), ("Port 22\n", CONFIG)])
def test_a_configuration_that_was_broken_before_is_told_and_no_reason_to_fail(
    ssh: Committers, config: str, target: str
) -> None:
    write(ssh, CONFIG, f"{config}Prot 22\n")
    fact, paths = ssh.commit(OFF)
    assert "sshd refuses its configuration, whoever made it so: " in fact
    assert "Bad configuration option: Prot" in fact
    assert paths == [target]
    assert "whoever made it so" in ssh.commit(OFF)[0]
    assert ssh.lab.path(CONFIG).read_text().startswith(f"{config}Prot 22\n")
    assert "PasswordAuthentication no\n" in ssh.lab.path(target).read_text()


def test_a_folder_of_sshds_elsewhere_is_the_one_that_counts(ssh: Committers) -> None:
    own = "/etc/ssh/own"
    ssh.lab.path(f"{own}/sshd_config.d").mkdir(parents=True)
    write(ssh, f"{own}/sshd_config", f"Include {own}/sshd_config.d/*.conf\n")
    order = CommitSshd(False, 77, CommitPaths(ssh_dir=own))
    assert ssh.commit(order)[1] == [f"{own}/sshd_config.d/50-agent-supervisor.conf"]
    assert effective(ssh, f"{own}/sshd_config") == ("no", "no", "77")


def test_a_distributions_own_file_is_completed_and_not_edited(ssh: Committers) -> None:
    vendors = "/usr/etc/ssh/sshd_config"
    ssh.lab.output("mkdir", "-p", "/usr/etc/ssh")
    try:
        write(ssh, vendors, INCLUDE)
        assert ssh.commit(OFF)[1] == [DROP_IN]
        assert effective(ssh, vendors) == ("no", "no", "77")
        write(ssh, vendors, "Port 22\n")
        with pytest.raises(Failed, match=r"the distribution's own, includes no /etc/ssh/sshd_config\.d") as failure:
            ssh.commit(OFF)
        assert not failure.value.changed
    finally:
        ssh.lab.output("rm", "-r", "/usr/etc")


def test_without_a_configuration_or_the_right_to_change_it(ssh: Committers) -> None:
    assert ssh.commit(OFF) == (f"there is no {CONFIG}: nothing to configure", [])
    write(ssh, CONFIG, "Port 22\n")
    ssh.lab.output("mount", "--bind", "/etc/ssh", "/etc/ssh")
    try:
        ssh.lab.output("mount", "-o", "remount,bind,ro", "/etc/ssh")
        with pytest.raises(Failed, match=f"{CONFIG}: Read-only file system") as failure:
            ssh.commit(OFF)
        assert not failure.value.changed
    finally:
        ssh.lab.output("umount", "/etc/ssh")


def test_settings_of_ours_that_sshd_alone_refuses_are_taken_back(ssh: Committers) -> None:
    """An interval that no sshd takes: more than the message's limit lets through, and all the more telling."""
    write(ssh, CONFIG, "Port 22\n")
    with pytest.raises(Failed, match=rf"sshd refuses the settings, {CONFIG} is as it was before: .*invalid") as failure:
        ssh.commit(CommitSshd(False, -5, CommitPaths()))
    assert not failure.value.changed
    assert ssh.lab.path(CONFIG).read_text() == "Port 22\n"
    assert ssh.commit(OFF)[1] == [CONFIG]
