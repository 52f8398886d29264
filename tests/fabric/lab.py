# SPDX-License-Identifier: Apache-2.0
"""Owns the lab: namespaces over an overlay of this machine's root, in which programs run for real and change nothing.

Runs in the test or the demo, as root. The host's files, accounts, mounts, host name and network stay as they are;
everything of the lab ends with it, even when its maker is killed (lab_keeper sees to that).
"""

import base64
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal

from tests.fabric.overlay import Change, changes

PROJECT = Path(__file__).resolve().parents[2]
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8"}
VM_ID = "2F8A7C41-5B6D-4E90-9A3B-7C1D2E4F6A80"
MACHINE_ID = "5f0c1b7e2d9a4c3f8e6b7a1d2c3e4f50"
# Join the cgroups, made when they aren't there yet, then become the command.
JOIN = (
    'until [ "$1" = -- ]; do [ -d "$1" ] || mkdir "$1"; echo 0 >"$1/cgroup.procs" || exit 125; shift; done; '
    'shift; exec "$@"'
)
# Any of: a pipe's end, an open file, subprocess.PIPE and its like.
Stream = int | IO[Any] | None


class LabError(Exception):
    """The lab could not be made, or a command in it failed where it has to work."""


@dataclass(frozen=True)
class PlacedFile:
    """A file that is in the lab from the start and therefore no change."""

    content: bytes
    mode: int = 0o644


@dataclass(frozen=True)
class LabProcess:
    """One process as the lab sees it; `uid` the effective one; `argv` empty for a zombie."""

    pid: int
    parent: int
    name: str
    uid: int
    argv: tuple[str, ...]


class Lab:
    """Use as a context manager. `files` are placed beforehand; `cgroup` "host" shows the hierarchies that this machine
    has, "v2" cgroup2 alone; `init` is what becomes process 1 (default: an idle reaper); `vm_id` the firmware shows."""

    def __init__(
        self,
        files: Mapping[str, bytes | PlacedFile] | None = None,
        *,
        cgroup: Literal["host", "v2"] = "host",
        hostname: str = "localhost",
        init: Sequence[str] = (),
        vm_id: str = VM_ID,
    ) -> None:
        placed = {"/etc/machine-id": MACHINE_ID.encode() + b"\n", "/etc/hostname": hostname.encode() + b"\n"}
        self._order = {
            "bound": _folders_to_bind(),
            "files": {path: _encoded(content) for path, content in (placed | dict(files or {})).items()},
            "vm_id": vm_id,
            "cgroup": cgroup,
            "hostname": hostname,
            "init": list(init),
        }
        self._keeper: subprocess.Popen[bytes] | None = None
        self._facts: dict[str, Any] = {}
        self._started: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Lab":
        self._keeper = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "--", sys.executable, "-m", "tests.fabric.lab_keeper"],
            cwd=PROJECT,
            env=ENVIRONMENT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        try:
            self._facts = self._begin(self._keeper)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End everything in the lab and the lab itself; a second time does nothing."""
        keeper, self._keeper = self._keeper, None
        if keeper is None or keeper.stdin is None or keeper.stdout is None:
            return
        with contextlib.suppress(BrokenPipeError):
            keeper.stdin.close()
        keeper.stdout.close()
        status = keeper.wait(timeout=60)
        for process in self._started:
            process.wait(timeout=5)  # nsenter saw its command die with the lab
        if status != 0 and self._facts:
            raise LabError(f"the lab's keeper ended with status {keeper.returncode}")

    @property
    def init_pid(self) -> int:
        """The lab's first process, as the host numbers it."""
        return int(self._facts["pid"])

    @property
    def keeper_pid(self) -> int:
        """The process outside that keeps the lab."""
        if self._keeper is None:
            raise LabError("the lab is closed")
        return self._keeper.pid

    @property
    def stage(self) -> str:
        """Where the keeper has the file system that takes all changes to the lab's root."""
        return str(self._facts["stage"])

    @property
    def cgroups(self) -> dict[str, Path]:
        """The lab's cgroup in each hierarchy, by the hierarchy's name, as the host sees it."""
        return {name: Path(folder) for name, folder in self._facts["cgroups"].items()}

    def popen(
        self,
        argv: Sequence[str],
        *,
        cgroup: str = "shell",
        cwd: str = "/",
        env: Mapping[str, str] | None = None,
        stdin: Stream = subprocess.DEVNULL,
        stdout: Stream = None,
        stderr: Stream = None,
        session: bool = True,
    ) -> subprocess.Popen[bytes]:
        """Start `argv` in the lab, in the cgroup `cgroup` of every hierarchy; `env` is added to a bare environment.

        The process object is nsenter's: its status is the command's, but signals go through `send_signal`."""
        folders = [str(folder / cgroup) for folder in self.cgroups.values()]
        enter = f"nsenter --target {self.init_pid} --mount --uts --ipc --net --pid --cgroup --".split()
        process = subprocess.Popen(
            ["sh", "-c", JOIN, "sh", *folders, "--", *enter, "env", "-C", cwd, "--", *argv],
            env=ENVIRONMENT | dict(env or {}),
            cwd="/",
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=session,
        )
        self._started = [one for one in self._started if one.poll() is None] + [process]
        return process

    def run(
        self, argv: Sequence[str], *, given: bytes = b"", timeout_s: float = 30.0, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run `argv` to its end with `given` on its input; `options` as for `popen`."""
        process = self.popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        try:
            out, err = process.communicate(given, timeout=timeout_s)
        except BaseException:
            send_signal(process, signal.SIGKILL)
            process.communicate()
            raise
        return subprocess.CompletedProcess(list(argv), process.returncode, out.decode(), err.decode())

    def output(self, *argv: str, timeout_s: float = 30.0) -> str:
        """What `argv` prints; LabError unless it succeeds."""
        done = self.run(argv, timeout_s=timeout_s)
        if done.returncode != 0:
            raise LabError(f"{list(argv)} ended with status {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def path(self, path: str) -> Path:
        """The lab's `path` as the host reaches it. No component may be a link: it would lead into the host's tree."""
        return Path(f"/proc/{self.init_pid}/root{path}")

    def read(self, path: str) -> bytes:
        """The content of a file in the lab, links followed there; FileNotFoundError when it isn't there."""
        process = self.popen(["cat", "--", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = process.communicate(timeout=30)
        if process.returncode != 0:
            raise FileNotFoundError(path, err.decode().strip())
        return out

    def write(self, path: str, content: bytes) -> None:
        """Write a file in the lab (it counts as a change)."""
        done = self.run(["tee", "--", path], given=content)
        if done.returncode != 0:
            raise LabError(done.stderr.strip())

    def changed(self) -> list[Change]:
        """What differs in the overlay from this machine's root and the placed files."""
        stage = Path(f"/proc/{self.keeper_pid}/root{self.stage}")
        return changes(stage / "upper", (stage / "image", Path("/")))

    def processes(self) -> list[LabProcess]:
        """Every process in the lab, itself and its pids as seen from within."""
        found = []
        for folder in self.path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                found.append(_process(folder))
        # A command's zombie whose nsenter was killed is the host's to bury, and no process of the lab's any more.
        return sorted((p for p in found if p.argv or p.parent), key=lambda process: process.pid)

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        """Send a signal to `pid` as the lab numbers it; ProcessLookupError when it is gone."""
        if self.run(["kill", f"-{int(number)}", str(pid)]).returncode != 0:
            raise ProcessLookupError(pid)

    def _begin(self, keeper: subprocess.Popen[bytes]) -> dict[str, Any]:
        assert keeper.stdin is not None
        assert keeper.stdout is not None
        keeper.stdin.write(json.dumps(self._order).encode() + b"\n")
        keeper.stdin.flush()
        deadline = time.monotonic() + 20
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([keeper.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise LabError("the lab did not come up within 20 s")
            part = os.read(keeper.stdout.fileno(), 65536)
            if not part:
                raise LabError("the lab could not be made; its keeper's messages are on stderr")
            line += part
        facts: dict[str, Any] = json.loads(line)
        return facts


def send_signal(process: subprocess.Popen[bytes], number: int) -> None:
    """Signal the command that `Lab.popen` started; nsenter, its parent, then ends as it does.

    Killed itself, nsenter would leave the command, or its zombie, to the host's first process."""
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for pid in children or [str(process.pid)]:
            os.kill(int(pid), number)


def _folders_to_bind() -> list[str]:
    """The project, which must stay as it is; and what an overlay of the root file system alone would not show."""
    root = Path("/").stat().st_dev
    needed = [folder for folder in (Path("/usr"), Path(sys.base_prefix)) if not PROJECT.is_relative_to(folder)]
    lost = [f for f in needed if f.stat().st_dev != root or f.is_relative_to("/tmp") or f.is_relative_to("/run")]
    return [str(PROJECT), *map(str, lost)]


def _encoded(content: bytes | PlacedFile) -> dict[str, Any]:
    placed = content if isinstance(content, PlacedFile) else PlacedFile(content)
    return {"content": base64.b64encode(placed.content).decode(), "mode": placed.mode}


def _process(folder: Path) -> LabProcess:
    status = dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines() if ":\t" in line)
    argv = (folder / "cmdline").read_bytes().split(b"\0")[:-1]
    uid = int(status["Uid"].split()[1])
    words = tuple(word.decode(errors="replace") for word in argv)
    return LabProcess(int(folder.name), int(status["PPid"]), status["Name"], uid, words)
