# SPDX-License-Identifier: Apache-2.0
"""The view: a worker sees the granted paths, with the granted access, and nothing else; the host sees no mount."""

import errno
import os
import socket
from pathlib import Path

import pytest

from policy.profile import PathGrant
from supervisor.jail import mounts, namespaces, syscalls
from tests.jail.forked import attempt, in_child, listed
from tests.jail.profiles import WHY, grants

pytestmark = pytest.mark.root


def enter(paths: tuple[PathGrant, ...], channel: Path) -> tuple[str, ...]:
    namespaces.leave(["mount"])
    mounts.make_private()
    return mounts.pivot_into_view(paths, str(channel))


def write_to(path: str) -> int:
    return attempt(lambda: os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)))


def exec_status(path: str) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            os.execv(path, [path])
        except OSError as error:
            os._exit(error.errno or 255)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_nothing_is_there_but_the_grants(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "file").write_text("content")
    before = Path("/proc/self/mountinfo").read_text()
    file, folder = str(tmp_path / "file"), str(tmp_path / "deep")
    paths = (*grants(ro=file, rw=folder), PathGrant(path="/nowhere/at/all", access="ro", why=WHY))

    def look() -> list[object]:
        absent = enter(paths, tmp_path)
        return [
            absent,
            listed("/"),
            Path(file).read_text(),
            listed(tmp_path),
            attempt(Path("/etc").stat),
            attempt(Path("/proc/self").stat),
            str(Path.cwd()),
        ]

    absent, top, content, beside, etc, proc, cwd = in_child(look).value
    assert absent == ["/nowhere/at/all"]
    assert top == [tmp_path.parts[1]]
    assert (content, sorted(beside)) == ("content", ["deep", "file"])
    assert (etc, proc, cwd) == (errno.ENOENT, errno.ENOENT, "/")
    assert Path("/proc/self/mountinfo").read_text() == before


def test_access_is_what_the_grant_says(tmp_path: Path) -> None:
    for name in ("ro", "rx", "rw"):
        (tmp_path / name).mkdir()
        program = tmp_path / name / "program"
        program.write_bytes(Path("/bin/true").resolve().read_bytes())
        program.chmod(0o755)
    paths = grants(ro=str(tmp_path / "ro"), rx=str(tmp_path / "rx"), rw=str(tmp_path / "rw"))
    libraries = tuple(PathGrant(path=path, access="rx", why=WHY) for path in ("/lib", "/lib64", "/usr/lib"))

    def look() -> list[list[int]]:
        enter((*paths, *libraries), tmp_path)
        return [
            [write_to(f"{tmp_path}/{name}/new"), exec_status(f"{tmp_path}/{name}/program")]
            for name in ("ro", "rx", "rw")
        ]

    assert in_child(look).value == [[errno.EROFS, errno.EACCES], [errno.EROFS, 0], [0, errno.EACCES]]


def test_the_root_itself_takes_no_file_and_no_device_opens(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    os.mknod(tmp_path / "dev" / "null", 0o20666, os.makedev(1, 3))

    def look() -> list[int]:
        with_it = attempt(lambda: os.close(os.open(f"{tmp_path}/dev/null", os.O_RDONLY)))
        enter(grants(rw=str(tmp_path / "dev")), tmp_path)
        return [write_to("/new"), with_it, attempt(lambda: os.close(os.open(f"{tmp_path}/dev/null", os.O_RDONLY)))]

    assert in_child(look).value == [errno.EROFS, 0, errno.EACCES]


def test_the_channel_folder_can_be_connected_to_and_not_written(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s"))
    listener.listen(1)

    def look() -> list[object]:
        enter(grants(channel="/channel"), tmp_path)
        peer = socket.socket(socket.AF_UNIX)
        return [attempt(lambda: peer.connect("/channel/s")), write_to("/channel/new"), listed("/")]

    assert in_child(look).value == [0, errno.EROFS, ["channel"]]
    listener.close()


def test_proc_shows_the_own_pid_namespace_only(tmp_path: Path) -> None:
    def spawner() -> object:
        own = namespaces.own_pid_namespace()
        namespaces.enter_new_pid_namespace()

        def look() -> list[str]:
            enter(grants(ro="/proc"), tmp_path)
            return [name for name in listed("/proc") if name.isdigit()]

        first = in_child(look)
        namespaces.return_to_pid_namespace(own)
        return first.value

    assert in_child(spawner).value == ["1"]


def test_a_restriction_of_the_source_is_kept(tmp_path: Path) -> None:
    """A folder that the host mounts read-only does not become writable by an `rw` grant."""
    (tmp_path / "source").mkdir()

    def look() -> int:
        namespaces.leave(["mount"])
        mounts.make_private()
        source = str(tmp_path / "source")
        syscalls.mount("tmpfs", source, "tmpfs", 1, "size=16k")
        mounts.pivot_into_view(grants(rw=source), str(tmp_path))
        return write_to(f"{source}/new")

    assert in_child(look).value == errno.EROFS
