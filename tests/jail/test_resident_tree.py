# SPDX-License-Identifier: Apache-2.0
"""The supervisor's own mount tree: what Landlock does not judge is refused by it, and succeeds under Landlock alone;
what the supervisor works with is there."""

import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from policy.capability import mask
from policy.load import load
from policy.placeholders import LIB, NOTIFY
from supervisor.jail import capabilities, mounts, namespaces, sealed_tree, syscalls
from supervisor.jail.resident_tree import seal_resident
from supervisor.jail.shedding import lock_resident
from tests.jail.forked import attempt, in_child, listed, status_of, until

pytestmark = pytest.mark.root
OWN = next(compiled for compiled in load().programs if compiled.profile.kind == "supervisor")
LIBRARY, NOTIFIED, JOURNAL = "/srv/library", "/run/vendor/notify", "/run/systemd/journal/socket"
PLACES = {LIB: (LIBRARY,), NOTIFY: (NOTIFIED,)}
HOME, MEDIUM = "/var/homes", "/tmp/medium.iso"
OWN_FOLDERS = ("/run/agent-supervisor", "/var/lib/agent-supervisor", LIBRARY, "/var/log")
PROGRAM = "/etc/program"
# Where services of root's listen.
OTHERS = (
    "/run/systemd/private",
    "/run/dbus/system_bus_socket",
    "/run/docker.sock",
    "/var/lib/lxd/unix.socket",
    "/tmp/x",
)
START = {"chown", "setpcap"}


def machine() -> list[socket.socket]:
    """A throw-away view of the folders of a machine, with services that listen, and a disk of somebody else's."""
    namespaces.leave(["mount"])
    mounts.make_private()
    for folder in ("/dev/shm", "/etc", "/run", "/srv", "/tmp", "/var"):
        syscalls.mount("tmpfs", folder, "tmpfs", 0, "mode=0755")
    for folder in (*OWN_FOLDERS, HOME, "/srv/disk", "/run/systemd/system"):
        Path(folder).mkdir(parents=True)
    syscalls.mount("tmpfs", "/srv/disk", "tmpfs", 0)
    Path("/srv/disk/file").touch()
    for file in (PROGRAM, MEDIUM):
        Path(file).touch(0o755)
    return [listen(path, socket.SOCK_STREAM) for path in OTHERS] + [
        listen(path, socket.SOCK_DGRAM) for path in (JOURNAL, NOTIFIED)
    ]


def listen(path: str, kind: int) -> socket.socket:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    listener = socket.socket(socket.AF_UNIX, kind)
    listener.bind(path)
    if kind == socket.SOCK_STREAM:
        listener.listen()
    return listener


def connects(path: str, kind: int = socket.SOCK_STREAM) -> Callable[[], object]:
    def act() -> None:
        with socket.socket(socket.AF_UNIX, kind) as client:
            client.connect(path)

    return act


def within(act: Callable[[], object], *, sealed: bool = True, locked: bool = True) -> object:
    """What `act` gives in the supervisor's place, from its exec to its loop."""

    def child() -> object:
        listening = machine()
        capabilities.hold(OWN.profile.start_capability_names)
        capabilities.no_new_privileges()
        if sealed:
            assert seal_resident(OWN.profile, PLACES, [HOME, MEDIUM])
        if locked:
            lock_resident(OWN, PLACES)
        found = act()
        for listener in listening:
            listener.close()
        return found

    return in_child(child).value


BY_ANOTHERS_ROOT = "goes by the root of a process that sees all"
ATTACKS: dict[str, Callable[[], object]] = {
    "makes a program of root's set-user-id": lambda: Path(PROGRAM).chmod(0o4755),
    "changes its times": lambda: os.utime(PROGRAM),
    "finds another's disk": Path("/srv/disk/file").stat,
    BY_ANOTHERS_ROOT: Path("/proc/1/root/etc").stat,
    **{f"asks {path}": connects(path) for path in OTHERS},
}


@pytest.mark.parametrize("sealed", [True, False])
def test_what_landlock_does_not_judge_is_out_of_reach(sealed: bool) -> None:
    found = within(lambda: {name: attempt(act) for name, act in ATTACKS.items()}, sealed=sealed)
    assert isinstance(found, dict)
    # Landlock's affair, sealed or not.
    assert found.pop(BY_ANOTHERS_ROOT) == errno.EACCES
    if sealed:
        assert set(found.values()) == {errno.EROFS, errno.ENOENT}
    else:
        assert set(found.values()) == {0}


def test_what_it_works_with_is_there() -> None:
    def act() -> list[int]:
        return [
            *(attempt(Path(folder, "new").touch) for folder in OWN_FOLDERS),
            attempt(connects(JOURNAL, socket.SOCK_DGRAM)),
            attempt(connects(NOTIFIED, socket.SOCK_DGRAM)),
            attempt(lambda: listed("/run/systemd/system")),
            attempt(lambda: listed(HOME)),
            attempt(lambda: os.close(os.open(MEDIUM, os.O_RDONLY))),
            attempt(lambda: os.close(os.open("/dev/null", os.O_RDONLY))),
        ]

    assert set(within(act)) == {0}  # type: ignore[call-overload]


def test_the_capability_for_it_is_gone_before_anything_else_is_done() -> None:
    def act() -> list[object]:
        status = status_of()
        return [
            *(mask(START) == int(status[name], 16) for name in ("CapPrm", "CapEff")),
            *(int(status[name], 16) == 0 for name in ("CapInh", "CapAmb")),
            attempt(lambda: syscalls.mount("tmpfs", "/run", "tmpfs", 0)),
        ]

    assert within(act, locked=False) == [True] * 4 + [errno.EPERM]


def test_what_the_machine_gets_later_comes_in_where_it_is_a_file_and_not_where_it_is_a_mount() -> None:
    def act() -> list[bool]:
        there, told = os.pipe()
        os.set_blocking(there, False)
        if (pid := os.fork()) == 0:
            capabilities.hold(OWN.profile.start_capability_names)
            seal_resident(OWN.profile, PLACES, [HOME, MEDIUM])
            os.write(told, b"x")
            seen = until(Path("/dev/shm/late").exists) and until(Path("/etc/late").exists)
            os._exit(0 if seen and not Path("/etc/folder/late").exists() else 1)
        Path("/etc/folder").mkdir()
        sealed = until(lambda: attempt(lambda: os.read(there, 1)) == 0)
        syscalls.mount("tmpfs", "/etc/folder", "tmpfs", 0)
        for late in ("/etc/folder/late", "/dev/shm/late", "/etc/late"):
            Path(late).touch()
        return [sealed, os.waitpid(pid, 0)[1] == 0]

    assert within(act, sealed=False, locked=False) == [True, True]


def test_without_a_mount_namespace_all_stays_as_it_was_and_is_told() -> None:
    def act() -> list[object]:
        capabilities.hold(frozenset(START))
        sealed = seal_resident(OWN.profile, PLACES, [])
        return [sealed, Path("/srv/disk/file").exists(), sealed_tree.mount_points()[-1]]

    assert within(act, sealed=False, locked=False) == [False, True, "/srv/disk"]
