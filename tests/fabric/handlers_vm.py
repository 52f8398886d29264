# SPDX-License-Identifier: Apache-2.0
"""Owns a VM for extensions: systemd, all of Azure around it, the agent as its unit; handlers published, their judges.

Runs in tests, outside the lab. It judges nothing: it tells what the handlers told, and what the host was told.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from supervisor.cli.client import ask
from supervisor.layout import Layout
from supervisor.status import Snapshot
from supervisor.verbs import PS
from tests.fabric.handler_packages import Package
from tests.fabric.handler_program import JUDGE
from tests.fabric.lab import PlacedFile
from tests.fabric.scene import AGENT, Scene, Wanted, image_files
from tests.fabric.surroundings import Surroundings
from tests.fabric.systemd_lab import UNIT, SystemdLab
from tests.fabric.vm import QUICK
from tests.fabric.waiting import until

CONFIG = QUICK + b"Extensions.GoalStatePeriod=1\n"
LIB, LOG = "/var/lib/waagent", "/var/log/waagent.log"
STOCK = "/run/fabric/packages"
LINES_BYTES = 1 << 20


@dataclass(frozen=True)
class Wish:
    """What a goal state says of one handler. `settings` as plan.Settings has them, an empty sequence: none; `places`:
    what is to be had at each place instead of the package; `more`: further fields of plan.Plugin."""

    package: Package
    state: str = "enabled"
    settings: Sequence[Mapping[str, object]] = ({"sequence": 0, "public": {}},)
    places: Sequence[bytes] = ()
    more: Mapping[str, object] = field(default_factory=dict)

    def plugin(self) -> dict[str, object]:
        """As plan.Plugin, in what JSON has."""
        said = {"name": self.package.name, "version": self.package.version, "state": self.state}
        return {**said, "settings": list(self.settings), **self.more}


@dataclass
class HandlersVm:
    """The lab's systemd has the agent's unit. What handlers tell is in the lab's JUDGE."""

    lab: SystemdLab
    scene: Scene
    wanted: Wanted
    around: Surroundings
    _stocked: dict[str, dict[str, tuple[bytes, ...]]] = field(default_factory=dict)

    # --- what the platform does

    def publish(self, *wishes: Wish, words: Sequence[str] = ("same-container",), **plan: object) -> str:
        """The next goal state, with these handlers and their packages in storage; its sequence number."""
        self.stock(*wishes)
        told = self.scene.publish(*words, plugins=[wish.plugin() for wish in wishes], **plan)
        return str(told["incarnation"])

    def publish_fast(self, *wishes: Wish, **plan: object) -> str:
        """The same by vmSettings; `sequence` is to be among `plan`."""
        self.stock(*wishes)
        plan["plugins"] = [wish.plugin() for wish in wishes]
        self.scene.steer(f"fast {json.dumps(plan)}")
        return str(plan["sequence"])

    def stock(self, *wishes: Wish) -> None:
        """Have their packages in storage, beside the versions that are there already."""
        for wish in wishes:
            package, versions = wish.package, self._stocked.setdefault(wish.package.name, {})
            contents = tuple(wish.places) or (package.zipped(),)
            if versions.get(package.version) == contents:
                continue
            versions[package.version] = contents
            self.lab.output("mkdir", "-p", STOCK)
            words = []
            for version, places in versions.items():
                files = [f"{STOCK}/{package.name}-{version}.{number}" for number in range(len(places))]
                for file, content in zip(files, places, strict=True):
                    self.lab.path(file).write_bytes(content)
                words.append(f"{version}={','.join(files)}")
            self.scene.steer(f"stock {package.name} {' '.join(words)}")

    # --- what came of it

    def judge(self, name: str) -> list[dict[str, Any]]:
        """The lines of a judge's file, oldest first: HANDLER, or HANDLER.ended and its like (handler_program.py)."""
        try:
            text = self.lab.path(f"{JUDGE}/{name}").read_bytes()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in text.splitlines()]

    def verbs(self, handler: str) -> list[str]:
        """What was begun, in order: verb, version, sequence number, and the extension if it has a name."""
        told = [(each["verb"], each["version"], each["sequence"], each["extension"]) for each in self.judge(handler)]
        return [" ".join(filter(None, each)) for each in told]

    def status(self) -> Mapping[str, Any]:
        """aggregateStatus of the last status that the host took; empty before the first."""
        told: Any = self.scene.steer("last")["status"]
        return told["aggregateStatus"] if told else {}

    def handler_statuses(self, handler: str) -> list[Mapping[str, Any]]:
        """What that says of a handler: an entry for each of its extensions."""
        return [each for each in self.status().get("handlerAggregateStatus", ()) if each["handlerName"] == handler]

    def handler_status(self, handler: str) -> Mapping[str, Any]:
        """The first of them; empty without."""
        return next(iter(self.handler_statuses(handler)), {})

    def settings_status(self, handler: str, extension: str = "") -> Mapping[str, Any]:
        """What that says of an extension's settings: its `status`; empty without."""
        for each in self.handler_statuses(handler):
            told = each.get("runtimeSettingsStatus", {}).get("settingsStatus", {}).get("status", {})
            if not extension or told.get("name") == extension:
                return told  # type: ignore[no-any-return]
        return {}

    def outcome(self) -> tuple[str, str, int]:
        """Of which goal state the host knows the end: its sequence number, how it ended, with which code."""
        told = self.status().get("vmArtifactsAggregateStatus", {}).get("goalStateAggregateStatus", {})
        return str(told.get("inSvdSeqNo", "")), told.get("status", ""), told.get("code", 0)

    def until_ended(self, sequence: str, timeout_s: float = 30.0) -> tuple[str, int]:
        """How the goal state of that sequence number ended, with which code, once the host knows. WaitedInVain."""
        until(f"the end of goal state {sequence}", lambda: self.outcome()[0] == sequence, timeout_s)
        return self.outcome()[1:]

    def ps(self) -> Snapshot | None:
        """What the control socket answers now; None while nobody listens there."""
        try:
            return msgspec.json.decode(ask(str(self.lab.path(Layout().control_socket)), PS).data, type=Snapshot)
        except OSError:
            return None

    def command(self, *words: str) -> str:
        """What `agent-supervisor WORDS` prints."""
        return self.lab.output(str(AGENT), *words)

    def log(self) -> str:
        """The agent's log; empty before it has said anything."""
        try:
            return self.lab.read(LOG).decode(errors="replace")
        except FileNotFoundError:
            return ""

    # --- who is there

    def spawner(self) -> int:
        """As the lab numbers it."""
        return int(self.lab.show(UNIT, "MainPID")["MainPID"])

    def supervisor(self) -> int:
        """As the lab numbers it."""
        spawner = self.spawner()

        def found() -> list[int]:
            return [p.pid for p in self.lab.processes() if p.parent == spawner and "supervisor.main" in p.argv]

        return until("the supervisor", found)[0]

    def kill(self, *pids: int) -> None:
        """kill -9; who is gone already stays so."""
        self.lab.run(["kill", "-9", *map(str, pids)])

    def daemons(self, handler: str) -> list[int]:
        """What `daemon` left behind of that handler."""
        return [process.pid for process in self.lab.processes() if f"daemon-of-{handler}" in process.argv]


@contextmanager
def handlers_vm(
    config: bytes = CONFIG,
    *,
    image: Mapping[str, bytes | PlacedFile] | None = None,
    more: Sequence[str] = ("--certificates=rsa",),
    is_ready: bool = True,
    noexec: bool = False,
) -> Iterator[HandlersVm]:
    """systemd up, the host and storage listening, the agent started; with `is_ready` provisioned and its first status
    taken. `image` has files that its disk brings beside those of every image; `more` are options of the host;
    `noexec`: /var is mounted so."""
    around, wanted = Surroundings.make(), Wanted()
    files = image_files(config) | around.files() | dict(image or {})
    with SystemdLab(files) as lab:
        # systemd does so on a machine; in what it takes for a container it leaves that to whoever made it.
        lab.output("mount", "--make-rshared", "/")
        if noexec:
            lab.output("mount", "--bind", "/var", "/var")
            lab.output("mount", "-o", "remount,bind,noexec", "/var")
        vm = HandlersVm(lab, Scene(lab, f"system.slice/{UNIT}"), wanted, around)
        around.start_host(vm.scene, more=more)
        vm.scene.insert(wanted.medium())
        try:
            started = lab.systemctl("start", "--no-block", UNIT)
            assert started.returncode == 0, started.stderr
            if is_ready:
                vm.scene.wait_until_ready(30.0)
                until("a status", vm.status, 20.0)
            yield vm
        except AssertionError as error:
            error.add_note(f"{vm.log()}\n{lab.journal(UNIT)}")
            raise
