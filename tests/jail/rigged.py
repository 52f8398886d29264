# SPDX-License-Identifier: Apache-2.0
"""Owns the rig as a test has it: real spawner, loop and fleet in a lab, with a policy and mutants of the test's choice.

Runs in the test. The rig's spawner is the agent's own code; only its supervisor is told what to do, by this.
"""

import itertools
import json
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from policy.compile import compile_policy
from policy.load import FILE_NAME, own_folder
from policy.sources import read_sources
from tests.fabric.lab import PROJECT, Lab, send_signal
from tests.fabric.waiting import until
from tests.jail.mutants import Mutation

HOME = "/run/rig"
# What the rig's supervisor asks about itself, and the agent's does not.
OF_THE_RIG = ("getrusage", "getresuid", "getresgid", "getgroups", "getuid", "geteuid", "uname")
_numbers = itertools.count(1)


def policy_sources(**changes: tuple[str, str]) -> dict[str, bytes]:
    """The project's policy with the rig's supervisor; `changes`: kind=(old text, new text) in that kind's profile."""
    sources = read_sources(own_folder())
    for kind, (old, new) in {"supervisor": ('"supervisor.main"', '"tests.jail.rig_supervisor"'), **changes}.items():
        name = f"profiles/{kind}.toml"
        text = sources[name].decode()
        if text.count(old) < 1:
            raise ValueError(f"{name} has no {old!r}")
        sources[name] = text.replace(old, new).encode()
    asked = "".join(f', "{call}"' for call in OF_THE_RIG)
    own = sources["profiles/supervisor.toml"]
    sources["profiles/supervisor.toml"] = own.replace(b'["pidfd_open"]', f'["pidfd_open"{asked}]'.encode())
    return sources


def place_policy(lab: Lab, name: str, sources: Mapping[str, bytes]) -> str:
    """Compile `sources` into a folder of the lab; its path there."""
    folder = lab.path(f"{HOME}/{name}")
    for part in ("calls", "profiles"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for path, content in sources.items():
        (folder / path).write_bytes(content)
    (folder / FILE_NAME).write_bytes(msgspec.msgpack.encode(compile_policy(sources)))
    return f"{HOME}/{name}"


def place_bait(lab: Lab) -> None:
    """A file and a folder that only root may look into."""
    lab.path(HOME).mkdir(exist_ok=True)
    secret, folder = lab.path(f"{HOME}/secret"), lab.path(f"{HOME}/folder")
    secret.write_bytes(b"only root's\n")
    secret.chmod(0o600)
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "inner").write_bytes(b"only root's, too\n")


class Rig:
    """Use as a context manager. `modules` are put into the spawner under other names, with `early` for them to read."""

    def __init__(
        self,
        lab: Lab,
        policy: str,
        mutations: Sequence[Mutation] = (),
        *,
        modules: Mapping[str, str] | None = None,
        early: str = "",
        phase: str = "provisioning",
        granted: Sequence[str] = ("granted", "no/such/group"),
        launcher: Sequence[str] = (),
        begun: Callable[[subprocess.Popen[bytes]], None] = lambda _: None,
    ) -> None:
        """`granted`: the cgroups for which policy has a grant to the WireServer. `launcher` is a command that becomes
        the one that follows it; `begun` is called once that has begun."""
        self._lab = lab
        self._launcher = list(launcher)
        self._begun = begun
        self._order = {
            "policy": policy,
            "mutations": list(mutations),
            "modules": dict(modules or {}),
            "early": early,
            "phase": phase,
            "granted": list(granted),
        }
        self._home = f"{HOME}/{next(_numbers)}"
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""
        self._answers: dict[int, dict[str, Any]] = {}
        self._next = itertools.count(1)
        self.supervisor = 0
        self.spawner = 0

    def __enter__(self) -> "Rig":
        return self.open()

    def open(self) -> "Rig":
        """Start it; `close` ends it."""
        lab = self._lab
        lab.path(self._home).mkdir()
        lab.path(f"{self._home}/order").write_text(json.dumps(self._order))
        with lab.path(f"{self._home}/log").open("wb") as log:
            self._process = lab.popen(
                [*self._launcher, sys.executable, "-m", "tests.jail.rig", f"{self._home}/order"],
                cgroup="agent",
                cwd=str(PROJECT),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        try:
            self._begun(self._process)
            self._greeted()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop the spawner, and with it everything."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return
        if process.poll() is None:
            send_signal(process, signal.SIGTERM)
            process.wait(timeout=15)
        process.stdin.close()
        process.stdout.close()

    def log(self) -> str:
        """What spawner and supervisor wrote on stderr."""
        return self._lab.path(f"{self._home}/log").read_text(errors="replace")

    def tell(self, do: str, **command: Any) -> int:
        """Send a command; the number by which `answer` knows it."""
        number = next(self._next)
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, "id": number, **command}).encode() + b"\n")
        self._process.stdin.flush()
        return number

    def answer(self, number: int, timeout_s: float = 20.0) -> dict[str, Any]:
        """The answer to a command."""
        deadline = time.monotonic() + timeout_s
        while number not in self._answers:
            self._read(deadline)
        return self._answers.pop(number)

    def ask(self, do: str, **command: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        return self.answer(self.tell(do, **command))

    def wait_for_next_supervisor(self) -> None:
        """After the death of the present one."""
        self._greeted()

    def proc(self, pid: int) -> Path:
        """The /proc folder of `pid`, a number of the lab's, from outside."""
        return self._lab.path(f"/proc/{pid}")

    def ended(self, pid: int) -> None:
        """Wait until `pid` is no more."""
        until(f"the end of {pid}", lambda: not _lives(self.proc(pid)))

    def _greeted(self) -> None:
        greeting = self.answer(0)
        self.supervisor, self.spawner = greeting["pid"], greeting["spawner"]

    def _read(self, deadline: float) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        output = self._process.stdout
        if not select.select([output], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise AssertionError(f"the rig does not answer; it said:\n{self.log()}")
        piece = output.read1(1 << 20)  # type: ignore[attr-defined]
        if not piece:
            raise AssertionError(f"the rig ended; it said:\n{self.log()}")
        *lines, self._rest = (self._rest + piece).split(b"\n")
        for line in lines:
            answer = json.loads(line)
            if answer["id"] < 0:
                raise AssertionError(f"the rig's loop: {answer}")
            self._answers[answer["id"]] = answer


def _lives(folder: Path) -> bool:
    try:
        return (folder / "stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False
