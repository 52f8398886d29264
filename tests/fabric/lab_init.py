# SPDX-License-Identifier: Apache-2.0
"""Owns the lab's inside: mounts, network, host name; then it is the lab's first process, or becomes systemd.

Runs as process 1 of the new namespaces. What it mounts is the lab's own or read-only: it must leave the host as it was.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
WIRESERVER = "168.63.129.16/32"


def main() -> NoReturn:
    """All of it, in order; tells the pid that the host knows us by."""
    order = json.loads(sys.argv[1])
    root = Path(order["root"])
    # The old /proc still shows the host's view.
    host_pid = int(str(Path("/proc/self").readlink()))
    mount_kernel_views(root, order["cgroups"], order["class"])
    mount_devices(root)
    bind_folders(root, order["bound"])
    enter(root)
    socket.sethostname(order["hostname"])
    run("ip", "link", "set", "lo", "up")
    run("ip", "address", "add", WIRESERVER, "dev", "lo")
    own_cgroup(order["cgroups"], leave=not order["init"])
    os.umask(0o022)
    # Before anybody knows us: process 1 is not told of a signal that it neither waits for nor handles.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
    print(json.dumps({"pid": host_pid}), flush=True)
    if order["init"]:
        become(order["init"])
    reap_forever()


def run(*command: str) -> None:
    """One command that has to work."""
    subprocess.run(command, check=True)


def mount(kind: str, where: Path, options: str = "") -> None:
    """Mount a new file system of `kind`."""
    where.mkdir(parents=True, exist_ok=True)
    run("mount", "-n", "-t", kind, *(("-o", options) if options else ()), kind, str(where))


def bind(source: Path, where: Path, *, read_only: bool = False) -> None:
    """Show `source` at `where` as well."""
    run("mount", "-n", "--bind", str(source), str(where))
    if read_only:
        run("mount", "-n", "-o", "remount,bind,ro", str(where))


def mount_kernel_views(root: Path, hierarchies: list[dict[str, Any]], classes: str) -> None:
    """proc and sys of the lab's own namespaces; settings that belong to the whole machine are read-only."""
    mount("proc", root / "proc", "nosuid,nodev,noexec")
    for name in ("sys", "sysrq-trigger"):
        machine_wide = root / "proc" / name
        if machine_wide.exists():
            bind(machine_wide, machine_wide, read_only=True)
    mount("sysfs", root / "sys", "nosuid,nodev,noexec")
    # A firmware's table with the lab's own VM id. Without it (an old kernel may refuse) the machine's shows.
    with contextlib.suppress(subprocess.CalledProcessError):
        mount("overlay", root / "sys/class", f"lowerdir={classes}:{root}/sys/class")
    top = root / "sys/fs/cgroup"
    if [h["name"] for h in hierarchies] != [""]:
        mount("tmpfs", top, "mode=0755")
    for hierarchy in hierarchies:
        mount(hierarchy["kind"], top / hierarchy["name"], hierarchy["options"])
    run("mount", "-n", "-o", "remount,bind,ro", str(root / "sys"))
    mount("tmpfs", root / "run", "mode=0755,nosuid,nodev")
    mount("tmpfs", root / "tmp", "mode=1777,nosuid,nodev")
    (root / "run/lock").mkdir(mode=0o1777)


def mount_devices(root: Path) -> None:
    """A /dev with the harmless nodes, terminals and shared memory of its own."""
    dev = root / "dev"
    mount("tmpfs", dev, "mode=0755,nosuid")
    for name in DEVICES:
        (dev / name).touch()
        bind(Path("/dev", name), dev / name)
    mount("devpts", dev / "pts", "newinstance,ptmxmode=0666,mode=0620,gid=5")
    mount("tmpfs", dev / "shm", "mode=1777,nosuid,nodev")
    for name, target in {"ptmx": "pts/ptmx", "fd": "/proc/self/fd", "stdin": "/proc/self/fd/0"}.items():
        (dev / name).symlink_to(target)
    for number, name in enumerate(("stdout", "stderr"), 1):
        (dev / name).symlink_to(f"/proc/self/fd/{number}")


def bind_folders(root: Path, folders: list[str]) -> None:
    """Show folders of the host read-only at their own paths."""
    for folder in folders:
        target = root / Path(folder).relative_to("/")
        target.mkdir(parents=True, exist_ok=True)
        bind(Path(folder), target, read_only=True)


def enter(root: Path) -> None:
    """Make `root` the root of this namespace and let go of the host's."""
    (root / "run/host").mkdir()
    os.chdir(root)
    run("pivot_root", ".", "run/host")
    os.chdir("/")
    run("umount", "-n", "-l", "/run/host")
    Path("/run/host").rmdir()


def own_cgroup(hierarchies: list[dict[str, Any]], *, leave: bool) -> None:
    """Leave the tree's root for /init, as any system's first process does: then controllers can be handed down."""
    for hierarchy in hierarchies if leave else []:
        top = Path("/sys/fs/cgroup", hierarchy["name"])
        (top / "init").mkdir()
        (top / "init/cgroup.procs").write_text("0")
        controllers = (top / "cgroup.controllers").read_text().split() if hierarchy["kind"] == "cgroup2" else []
        for controller in controllers:
            with contextlib.suppress(OSError):
                (top / "cgroup.subtree_control").write_text(f"+{controller}")


def become(init: list[str]) -> NoReturn:
    """Replace this process by another init, its output in /run/console.log."""
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    null = os.open("/dev/null", os.O_RDONLY)
    log = os.open("/run/console.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for target, source in ((0, null), (1, log), (2, log)):
        os.dup2(source, target)
    os.execve(init[0], init, {"container": "lab", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})


def reap_forever() -> NoReturn:
    """All that an idle process 1 has to do; SIGTERM, from outside, ends it and so the lab. Both are blocked."""
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 1)
    while signal.sigwait({signal.SIGCHLD, signal.SIGTERM}) != signal.SIGTERM:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
    os._exit(0)


if __name__ == "__main__":
    main()
