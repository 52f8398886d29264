# SPDX-License-Identifier: Apache-2.0
"""Owns the machines in trouble: no room, nothing to write to, locks, a wrong clock, missing tools. Runs in tests."""

from collections.abc import Callable, Iterator

from tests.fabric import bad_input_faults as faults
from tests.fabric.bad_input import PROVISIONED, Case, Play, Row, meet, pass_time, provisioned, stop
from tests.fabric.lab import Lab
from tests.fabric.vm import booted
from tests.fabric.waiting import until

GROUP = "machine"
KIB = 1024
# Account tools wait for a lock themselves, a quarter of a minute at least.
LOCKED_S = 40.0
USERADD = "/usr/sbin/useradd"
ACCOUNT = ("/etc/",)
HOME = (*ACCOUNT, "/home/azureuser")

Change = Callable[[Lab], object]
NO_JOURNAL = ("nothing is provisioned without a journal", "/var/lib/agent-supervisor")


def shell(command: str) -> Change:
    return lambda lab: lab.output("sh", "-ec", command)


# What breaks the machine, what mends it, what must be reported, and what may have been changed by then.
BROKEN: dict[str, tuple[Change, Change, tuple[str, ...], tuple[str, ...]]] = {
    "disk full": (
        lambda lab: faults.fill_disk(lab, 0),
        faults.make_room,
        (*NO_JOURNAL, "No space left on device"),
        (),
    ),
    "disk full after 16 KiB": (
        lambda lab: faults.fill_disk(lab, 16 * KIB),
        faults.make_room,
        ("/etc", "KiB left"),
        ACCOUNT,
    ),
    "disk full after 48 KiB": (
        lambda lab: faults.fill_disk(lab, 48 * KIB),
        faults.make_room,
        ("account", "/etc", "KiB left"),
        ACCOUNT,
    ),
    "disk full after 80 KiB": (
        lambda lab: faults.fill_disk(lab, 80 * KIB),
        faults.make_room,
        ("KiB left",),
        HOME,
    ),
    "no inodes": (
        lambda lab: faults.use_up_inodes(lab, 0),
        faults.make_room,
        (*NO_JOURNAL, "No space left on device"),
        (),
    ),
    "no inodes after 20": (
        lambda lab: faults.use_up_inodes(lab, 20),
        faults.make_room,
        ("account", "inodes left"),
        ACCOUNT,
    ),
    "no inodes after 32": (
        lambda lab: faults.use_up_inodes(lab, 32),
        faults.make_room,
        ("inodes left",),
        HOME,
    ),
    "/etc read-only": (
        lambda lab: faults.make_read_only(lab, "/etc"),
        lambda lab: faults.make_writable(lab, "/etc"),
        ("/etc/", "Read-only file system"),
        (),
    ),
    "/ read-only": (
        shell("mount -n -o remount,ro /"),
        shell("mount -n -o remount,rw /"),
        (*NO_JOURNAL, "Read-only file system"),
        (),
    ),
    "/var/lib/waagent full": (
        shell("mkdir /var/lib/waagent; mount -n -t tmpfs -o size=4k small /var/lib/waagent"),
        shell("mount -n -o remount,size=1m /var/lib/waagent"),
        ("/var/lib/waagent/", "No space left on device"),
        HOME,
    ),
    "/home full": (
        lambda lab: faults.mount_small(lab, "/home", "size=8k"),
        shell("mount -n -o remount,size=1m /home"),
        ("account", "/home/", "No space left on device"),
        ACCOUNT,
    ),
    "/home read-only": (
        lambda lab: faults.make_read_only(lab, "/home"),
        lambda lab: faults.make_writable(lab, "/home"),
        ("account", "/home/", "Read-only file system"),
        ACCOUNT,
    ),
    "no /home": (
        shell("mv /home /home.away"),
        shell("mv /home.away /home"),
        ("account", "/home"),
        ACCOUNT,
    ),
    "/etc/passwd locked by a live program's file": (
        shell(r"printf '1\0' >/etc/passwd.lock"),
        shell("rm /etc/passwd.lock"),
        ("account", "/etc/passwd.lock"),
        ACCOUNT,
    ),
    "useradd missing": (
        shell(f"mv {USERADD} {USERADD}.away"),
        shell(f"mv {USERADD}.away {USERADD}"),
        ("account", "useradd is not installed"),
        ACCOUNT,
    ),
    "ssh-keygen missing": (
        shell("mv /usr/bin/ssh-keygen /usr/bin/ssh-keygen.away"),
        shell("mv /usr/bin/ssh-keygen.away /usr/bin/ssh-keygen"),
        ("host keys", "ssh-keygen is not installed"),
        (),
    ),
    "/etc/passwd missing": (
        shell("mv /etc/passwd /etc/passwd.away"),
        shell("mv /etc/passwd.away /etc/passwd"),
        ("/etc/passwd", "No such file or directory"),
        (),
    ),
}
BREAKS = tuple(Case(GROUP, name, words, left=left) for name, (_, _, words, left) in BROKEN.items())
LOCKED = Case(GROUP, "accounts locked by another program", ("account", "useradd", "lock"), left=ACCOUNT)
LOCKED_A_WHILE = Case(GROUP, "accounts locked for 2 s", ("account",), ready=True)
# What is unusual and must be taken.
UNUSUAL: dict[str, Change] = {
    "/run/agent-supervisor full": shell(
        "mkdir /run/agent-supervisor; mount -n -t tmpfs -o mode=0755,size=4k small /run/agent-supervisor; "
        "head -c 4096 /dev/zero >/run/agent-supervisor/filler"
    ),
    "/etc/passwd locked by a dead program's file": shell("printf none >/etc/passwd.lock"),
    "home on another file system": lambda lab: faults.mount_small(lab, "/home"),
    "homes behind a link to another file system": shell(
        "mkdir /var/home; mount -n -t tmpfs -o mode=0755 homes /var/home; mv /home /home.away; ln -s var/home /home"
    ),
}
TAKEN = tuple(Case(GROUP, name, ready=True) for name in UNUSUAL)
CLOCK = Case(GROUP, "clock in 1970", ready=True)


def it_breaks(cases: tuple[Case, ...]) -> Iterator[Row]:
    """Broken, it says so; mended, the next start provisions as if nothing had been."""
    case = cases[0]
    breaks, mends, _, _ = BROKEN[case.name]
    with booted() as vm:
        breaks(vm.lab)
        row = meet(vm, case, vm.wanted.medium(), within_s=LOCKED_S)
        stop(vm)
        mends(vm.lab)
        vm.boot(None)
        yield Row(row.case, row.reported, row.left, provisioned(vm))


def locked(cases: tuple[Case, ...]) -> Iterator[Row]:
    with booted() as vm:
        with faults.accounts_locked(vm.lab):
            row = meet(vm, cases[0], vm.wanted.medium(), within_s=LOCKED_S)
        stop(vm)
        vm.boot(None)
        yield Row(row.case, row.reported, row.left, provisioned(vm))


def locked_a_while(cases: tuple[Case, ...]) -> Iterator[Row]:
    with booted() as vm:
        with faults.accounts_locked(vm.lab):
            vm.boot(vm.wanted.medium())
            until("the account's turn", lambda: vm.story() == "account")
            pass_time(vm)
        yield Row(cases[0], "until then: account; then Ready", provisioned(vm))


def taken(cases: tuple[Case, ...]) -> Iterator[Row]:
    with booted() as vm:
        UNUSUAL[cases[0].name](vm.lab)
        vm.boot(vm.wanted.medium())
        provisioned(vm)
        yield Row(cases[0], "Ready", PROVISIONED)


def in_1970(cases: tuple[Case, ...]) -> Iterator[Row]:
    with booted(image=faults.clock_of_1970()) as vm:
        assert vm.lab.output("date", "+%Y").strip() == "1970"
        vm.boot(vm.wanted.medium())
        provisioned(vm)
        assert " 1970-01-01T00:" in f" {vm.scene.log()}"
        shadow = vm.lab.output("getent", "shadow", vm.wanted.user).split(":")
        assert shadow[2] != "0", "day 0 means: the password must be changed at the first login"
        yield Row(cases[0], "Ready", PROVISIONED)


PLAYS: tuple[Play, ...] = (
    Play((LOCKED,), locked),
    *(Play((case,), it_breaks) for case in sorted(BREAKS, key=lambda case: "locked" not in case.name)),
    Play((LOCKED_A_WHILE,), locked_a_while),
    *(Play((case,), taken) for case in TAKEN),
    Play((CLOCK,), in_1970),
)
