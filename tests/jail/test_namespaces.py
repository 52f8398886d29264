# SPDX-License-Identifier: Apache-2.0
"""Namespaces: what is changed inside stays inside, and who begins a pid namespace is its process 1."""

import os
import socket
from pathlib import Path

import pytest

from supervisor.jail import capabilities, identity, namespaces, syscalls
from supervisor.jail.missing import Missing
from tests.jail.forked import attempt, in_child, status_of

pytestmark = pytest.mark.root
UID = 61001


def link(name: str, pid: int | str = "self") -> str:
    return str(Path(f"/proc/{pid}/ns/{name}").readlink())


def test_each_namespace_is_left_and_the_others_are_kept() -> None:
    files = {"mount": "mnt", "uts": "uts", "ipc": "ipc", "net": "net", "cgroup": "cgroup"}
    for name in files:

        def leave_one(name: str = name) -> list[str]:
            namespaces.leave([name, "pid", "user"])
            return [link(file) for file in files.values()]

        inside = in_child(leave_one).value
        differing = [other for other, now in zip(files, inside, strict=True) if now != link(files[other])]
        assert differing == [name]


def test_the_network_is_empty() -> None:
    def interfaces() -> list[str]:
        namespaces.leave(["net"])
        return [name for _, name in socket.if_nameindex()]

    assert in_child(interfaces).value == ["lo"]


def test_the_user_namespace_knows_one_uid_and_gives_power_over_nothing() -> None:
    def alone() -> list[object]:
        folder = namespaces.open_own_process_folder()
        identity.take(UID, UID, frozenset({"sys_admin"}))
        namespaces.be_alone_as(UID, UID, folder)
        maps = [Path(f"/proc/self/{name}").read_text().split() for name in ("uid_map", "gid_map", "setgroups")]
        powers = attempt(lambda: socket.sethostname("changed"))
        owner = Path("/etc/passwd").stat().st_uid
        capabilities.limit_to(frozenset())
        return [maps, link("user"), powers, owner, status_of()["CapBnd"], attempt(lambda: syscalls.unshare(0x20000))]

    maps, own, powers, owner, bounding, unshare = in_child(alone).value
    assert maps == [[str(UID), str(UID), "1"], [str(UID), str(UID), "1"], ["deny"]]
    assert own != link("user")
    assert powers
    assert owner == 65534  # root does not exist in there
    assert int(bounding, 16) == 0
    assert unshare == 1


def test_a_kernel_without_user_namespaces_is_told() -> None:
    """Inside a user namespace of its own, the test can forbid further ones without touching the host's settings."""

    def forbidden() -> str:
        syscalls.unshare(namespaces.NEWUSER)
        for name, text in (("setgroups", "deny"), ("uid_map", "0 0 1"), ("gid_map", "0 0 1")):
            Path(f"/proc/self/{name}").write_text(text)
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
        try:
            namespaces.be_alone_as(0, 0, namespaces.open_own_process_folder())
        except Missing as missing:
            return missing.mechanism
        return "made"

    assert in_child(forbidden).value == "user-namespace"


def test_only_the_next_child_begins_a_pid_namespace() -> None:
    def spawner() -> list[object]:
        own = namespaces.own_pid_namespace()
        namespaces.enter_new_pid_namespace()
        first = in_child(os.getpid)
        namespaces.return_to_pid_namespace(own)
        second = in_child(os.getpid)
        return [first.value, second.value]

    first, second = in_child(spawner).value
    assert first == 1
    assert second > 1
