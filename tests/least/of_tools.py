# SPDX-License-Identifier: Apache-2.0
"""The jobs of the committers whose companions run visudo, sshd, ssh-keygen and restorecon, and of sshd's reload."""

import stat
from collections.abc import Callable, Iterator

from ipc.messages import (
    CommitFailed,
    CommitLabels,
    CommitPaths,
    CommitSshd,
    CommitSshdReload,
    CommitSudo,
    Committed,
    InstallHostKeys,
    MakeHostKeys,
    Message,
    ReadHostKeys,
)
from tests.least.place import Place
from tests.least.scenario import Phase, Reply, Scenario, nothing
from tests.least.shapes import with_a_real_lib, with_a_real_lib64, with_programs_in

Prepare = Callable[[Place], None]
Check = Callable[[Place, Reply], None]
SUDOERS = "/etc/sudoers.d/waagent"
SUDO = CommitSudo("azureuser", True, CommitPaths())
SSHD = CommitSshd(False, 77, CommitPaths())
CONFIG, DROP_IN = "/etc/ssh/sshd_config", "/etc/ssh/sshd_config.d/50-agent-supervisor.conf"
INCLUDE = "Include /etc/ssh/sshd_config.d/*.conf\n"
STAGING = "/etc/ssh/.agent-supervisor-host-keys"
MAKE = MakeHostKeys("ed25519", STAGING, True)
INSTALL, READ = InstallHostKeys(STAGING, "/etc/ssh"), ReadHostKeys("/etc/ssh")
# One file in each folder that the policy lets be labelled.
TO_LABEL = tuple(
    f"{folder}/to-label" for folder in ("/srv", "/opt", "/export", "/data", "/var/home", "/var/lib", "/var/log")
)
LABELS = CommitLabels(("/etc/hostname", "/home/me/.ssh/authorized_keys", *TO_LABEL), ("/home/me",))
# As restorecon: it asks the kernel about a label, and whether each path has it; then it gives one. What marks a path
# here is its time, since a kernel without SELinux takes no label.
RESTORECON = """#!/usr/bin/python3 -IS
import errno, os, sys
if sys.argv[1:4] != ["-i", "-F", "--"]:
    sys.exit("unexpected " + " ".join(sys.argv))
with open("/sys/fs/selinux/context", "w") as file:
    file.write("system_u:object_r:etc_t:s0")
for name in ("/etc/selinux/file_contexts", "/proc/mounts"):
    with open(name) as file:
        file.read()
for path in filter(os.path.lexists, sys.argv[4:]):
    for act in (lambda: os.getxattr(path, "user.label", follow_symlinks=False),
                lambda: os.setxattr(path, "user.label", b"x", follow_symlinks=False)):
        try:
            act()
        except OSError as error:
            if error.errno == errno.ENOSYS:
                raise
    os.utime(path, (1e9, 1e9), follow_symlinks=False)
"""
LABELLED = 1000000000


def scenarios() -> Iterator[Scenario]:
    yield from _of_sudoers()
    yield from _of_sshd()
    yield from _of_host_keys()
    yield from _of_labels()


def _job(  # a scenario's parts
    kind: str,
    name: str,
    request: Message,
    check: Check,
    prepare: Prepare = nothing,
    about: str = "",
    phase: Phase = "provisioning",
) -> Scenario:
    return Scenario(kind, name, request, (Committed,), check, prepare, about=frozenset({about}), phase=phase)


def _shapes(kind: str, request: Message, check: Check, prepare: Prepare = nothing) -> Iterator[Scenario]:
    """The same on machines whose libraries and loader are not in /usr."""
    for shape in (with_a_real_lib, with_a_real_lib64):
        folder = shape.__name__.rpartition("_")[2]
        yield _job(kind, f"a machine with a real {folder}", request, check, _both(prepare, shape), f"/{folder}")


def _both(one: Prepare, other: Prepare) -> Prepare:
    def prepare(place: Place) -> None:
        one(place)
        other(place)

    return prepare


def _has_failed(_: Place, reply: Reply) -> None:
    reply.last(CommitFailed)


def _of_sudoers() -> Iterator[Scenario]:
    yield _job("sudoers", "a line", SUDO, _may_sudo, _no_line)
    yield _job("sudoers", "a folder that sudoers does not name", SUDO, _may_sudo, _no_folder)
    yield from _shapes("sudoers", SUDO, _may_sudo, _no_line)
    about = "CommitFailed in provisioning"
    yield _job(
        "sudoers", "a file that visudo refuses", SUDO, _has_failed, lambda place: place.write(SUDOERS, "x=\n"), about
    )


def _no_line(place: Place) -> None:
    place.remove(SUDOERS)


def _no_folder(place: Place) -> None:
    place.write("/etc/sudoers", "root ALL=(ALL:ALL) ALL\n", 0o440)
    place.remove("/etc/sudoers.d")


def _may_sudo(place: Place, reply: Reply) -> None:
    reply.last(Committed)
    assert "azureuser ALL=(ALL) NOPASSWD: ALL\n" in place.at(SUDOERS).read_text()
    assert "includedir /etc/sudoers.d" in place.at("/etc/sudoers").read_text()


def _of_sshd() -> Iterator[Scenario]:
    yield _job("sshd", "a drop-in at a first boot", SSHD, _is_set(DROP_IN), _ssh(INCLUDE))
    yield _job("sshd", "an edit", SSHD, _is_set(CONFIG), _ssh("PasswordAuthentication yes\n"))
    yield from _shapes("sshd", SSHD, _is_set(DROP_IN), _ssh(INCLUDE))
    about = "CommitFailed in provisioning"
    yield _job("sshd", "a distribution whose own file is below /usr", SSHD, _is_set(DROP_IN), _vendors, "/usr")
    yield _job("sshd", "a file that wins over ours", SSHD, _has_failed, _overridden, about)
    yield _job("sshd-reload", "an sshd that runs", CommitSshdReload(), _is_reloaded, _running_sshd)
    yield _job("sshd-reload", "a pid file that is none", CommitSshdReload(), _has_failed, _no_pid_file, about)


def _ssh(config: str) -> Prepare:
    """/etc/ssh at a first boot: no host keys, sshd has never run."""

    def prepare(place: Place) -> None:
        place.folder("/etc/ssh")
        place.folder("/etc/ssh/sshd_config.d")
        place.write(CONFIG, config)
        place.remove("/run/sshd")

    return prepare


def _vendors(place: Place) -> None:
    _ssh("")(place)
    place.remove(CONFIG)
    place.write("/usr/etc/ssh/sshd_config", INCLUDE)


def _overridden(place: Place) -> None:
    _ssh(INCLUDE)(place)
    place.write("/etc/ssh/sshd_config.d/10-image.conf", "PasswordAuthentication yes\n")


def _is_set(path: str) -> Check:
    def check(place: Place, reply: Reply) -> None:
        fact = reply.last(Committed).fact
        # What only sshd itself can have told.
        assert "UsePAM no" in fact, fact
        assert "sshd refuses its" not in fact, fact
        assert "PasswordAuthentication no" in place.at(path).read_text()

    return check


def _running_sshd(place: Place) -> None:
    """Some program of that name, which a SIGHUP ends."""
    place.copy("/usr/bin/sleep", "/run/rig/sshd")
    place.run("sh", "-c", "/run/rig/sshd 100 >/dev/null 2>&1 & echo $! >/run/sshd.pid")
    place.finally_run("sh", "-c", "kill $(cat /run/sshd.pid); rm /run/sshd.pid; true")


def _is_reloaded(_: Place, reply: Reply) -> None:
    fact = reply.last(Committed).fact
    assert "reads its keys and settings anew" in fact, fact


def _no_pid_file(place: Place) -> None:
    place.folder("/run/sshd.pid")


def _of_host_keys() -> Iterator[Scenario]:
    yield _job("host-keys", "an ed25519 key", MAKE, _has_keys(STAGING), _empty_ssh)
    yield _job("host-keys", "keys in their place", INSTALL, _has_keys("/etc/ssh"), _staged)
    yield _job(
        "host-keys", "their public halves", READ, _has_keys("/etc/ssh"), _placed, "Committed in steady", "steady"
    )
    yield _job(
        "host-keys", "one that can't be read", READ, _has_failed, _unreadable, "CommitFailed in steady", "steady"
    )
    yield _job("host-keys", "no keys", INSTALL, _has_failed, _empty_ssh, "CommitFailed in provisioning")
    yield from _shapes("host-keys", MAKE, _has_keys(STAGING), _empty_ssh)
    for kind in ("ecdsa", "auto"):
        order = MakeHostKeys(kind, STAGING, True)
        yield _job("host-keys", f"keys of type {kind}", order, _has_keys(STAGING), _empty_ssh)


def _empty_ssh(place: Place) -> None:
    place.folder("/etc/ssh")


def _staged(place: Place) -> None:
    _put_key(place, STAGING)
    place.write("/etc/ssh/ssh_host_dsa_key", "old\n", 0o600)


def _placed(place: Place) -> None:
    _put_key(place, "/etc/ssh")


def _unreadable(place: Place) -> None:
    place.folder("/etc/ssh")
    place.link("/etc/ssh/ssh_host_rsa_key.pub", "/etc/hostname")


def _put_key(place: Place, folder: str) -> None:
    place.folder("/etc/ssh")
    blob = "AAAAC3NzaC1lZDI1NTE5AAAAIAsPJpgTIrM1F+r/IXNNu9K9032ffjmsq9Q6nyGHD6wA"
    place.write(f"{folder}/ssh_host_ed25519_key", "a private key\n", 0o600)
    place.write(f"{folder}/ssh_host_ed25519_key.pub", f"ssh-ed25519 {blob} root@vm\n")


def _has_keys(folder: str) -> Check:
    def check(place: Place, reply: Reply) -> None:
        told = reply.last(Committed)
        assert told.host_keys, "no key was told"
        for key in told.host_keys:
            private = place.at(f"{folder}/ssh_host_{key.algorithm}_key").stat()
            assert stat.S_IMODE(private.st_mode) == 0o600

    return check


def _of_labels() -> Iterator[Scenario]:
    yield _job("labels", "a file of root's and a home", LABELS, _is_labelled, _selinux(nothing))
    yield from _shapes("labels", LABELS, _is_labelled, _selinux(nothing))
    sbin = _selinux(lambda place: with_programs_in(place, "/sbin", ("restorecon",)))
    yield _job("labels", "a machine whose restorecon is in /sbin", LABELS, _is_labelled, sbin, "/sbin")
    many = CommitLabels(tuple(f"/etc/{number:0240}" for number in range(400)), ("/home/me",))
    yield _job("labels", "hundreds of paths", many, _is_committed, _selinux(nothing), "memory")
    no_list = _selinux(lambda place: place.write("/usr/sbin/restorecon", "#!/bin/sh\nexit 1\n", 0o755))
    yield _job("labels", "a restorecon that fails", LABELS, _has_failed, no_list, "CommitFailed in provisioning")
    yield _job("labels", "a home", LABELS, _is_labelled, _selinux(nothing), "Committed in steady", "steady")
    yield _job("labels", "one that fails later", LABELS, _has_failed, no_list, "CommitFailed in steady", "steady")


def _selinux(more: Prepare) -> Prepare:
    """A machine with SELinux, as far as the committer sees it; the home's folders are closed to others."""

    def prepare(place: Place) -> None:
        place.write("/usr/sbin/restorecon", RESTORECON, 0o755)
        place.write("/etc/selinux/file_contexts", "/etc(/.*)? system_u:object_r:etc_t:s0\n")
        place.keep("/etc/hostname")
        for path in TO_LABEL:
            place.write(path, "x")
        place.folder("/home/me", 0o700, 4321, 4321)
        place.folder("/home/me/.ssh", 0o700, 4321, 4321)
        place.write("/home/me/.ssh/authorized_keys", "x", 0o600, 4321, 4321)
        place.write("/home/me/.bashrc", "x", 0o644, 4321, 4321)
        more(place)

    return prepare


def _is_committed(_: Place, reply: Reply) -> None:
    reply.last(Committed)


def _is_labelled(place: Place, reply: Reply) -> None:
    reply.last(Committed)
    for path in ("/etc/hostname", "/home/me", "/home/me/.bashrc", "/home/me/.ssh/authorized_keys", *TO_LABEL):
        assert place.at(path).stat().st_mtime == LABELLED, f"{path} is not labelled"
