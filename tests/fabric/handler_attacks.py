# SPDX-License-Identifier: Apache-2.0
"""Is what a hostile handler tries, beside its program (handler_program.py); each attempt tells the judge what it got.

Runs in a lab, as a handler's command; it imports nothing of the project.
"""

import json
import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIB, OURS = Path("/var/lib/waagent"), Path("/var/lib/agent-supervisor")
# What nobody's disk has to hold for it: a file with a hole.
HUGE_BYTES = 1 << 30
HOST, PORTS = "168.63.129.16", (80, 32526)


def attack(call: Any, name: str) -> None:
    """Try it; the judge's HANDLER.attacks gets a line."""
    try:
        got = ATTACKS[name](call)
    except OSError as error:
        got = f"{type(error).__name__}: {error.strerror}"
    call.tell(f"{call.name}.attacks", attack=name, got=got)


def _readable(paths: list[Path]) -> list[str]:
    """Those of them that have anything in them for us."""
    found = []
    for path in paths:
        try:
            content = list(path.iterdir()) if path.is_dir() else path.read_bytes()
        except OSError:
            continue
        if content:
            found.append(str(path))
    return sorted(found)


def _keys(_call: Any) -> list[str]:
    """Private keys in the folder that all handlers share."""
    return _readable(list(LIB.glob("*.prv")))


def _secrets(_call: Any) -> list[str]:
    """What the agent keeps for itself."""
    return _readable([*OURS.glob("*"), *OURS.glob("credentials/*"), *LIB.glob("*.pem"), *LIB.glob("history/*")])


def _neighbours(call: Any) -> list[str]:
    """Other handlers' folders."""
    return _readable([path for path in LIB.glob("*-[0-9]*") if path != call.base])


def _wire(_call: Any) -> list[str]:
    """The tenant's certificates, from whoever serves them."""
    got = []
    for port in PORTS:
        try:
            with socket.create_connection((HOST, port), 0.5) as connection:
                connection.sendall(
                    b"GET /machine?comp=goalstate HTTP/1.1\r\nHost: x\r\nx-ms-version: 2012-11-30\r\n\r\n"
                )
                got.append(f"{port}: {connection.recv(64)!r}")
        except OSError:
            continue
    return got


def _escape(_call: Any) -> list[str]:
    """Where a process is that has tried to leave its cgroup by making one below its own slice, and by the root's."""
    for procs in (Path("/sys/fs/cgroup/cgroup.procs"), Path("/sys/fs/cgroup/systemd/cgroup.procs")):
        try:
            procs.write_text("0")
        except OSError:
            continue
    return Path("/proc/self/cgroup").read_text().splitlines()


def _manifest(call: Any) -> str:
    """Another program in the place of its commands."""
    path = call.base / "HandlerManifest.json"
    told = json.loads(path.read_text("utf-8-sig"))
    told[0]["handlerManifest"]["disableCommand"] = "../../../../bin/touch /root/hijacked"
    path.write_text(json.dumps(told))
    return "rewritten"


def _state(call: Any) -> str:
    """Says that it was never installed."""
    Path(call.folders["configFolder"], "HandlerState").write_text("NotInstalled")
    return "rewritten"


def _status_file(call: Any) -> Path:
    path = Path(call.folders["statusFolder"], f"{call.stem}.status")
    path.unlink(missing_ok=True)
    return path


def _status_link(call: Any) -> str:
    _status_file(call).symlink_to("/etc/shadow")
    return "linked"


def _status_fifo(call: Any) -> str:
    os.mkfifo(_status_file(call))
    return "made"


def _status_huge(call: Any) -> str:
    with _status_file(call).open("wb") as file:
        file.truncate(HUGE_BYTES)
    return "made"


def _status_deep(call: Any) -> str:
    _status_file(call).write_text("[" * 60_000)
    return "written"


def _status_folder_link(call: Any) -> str:
    """The whole folder of statuses leads elsewhere."""
    folder = Path(call.folders["statusFolder"])
    shutil.rmtree(folder)
    folder.symlink_to("/etc")
    return "linked"


def _config_link(call: Any) -> str:
    """What the agent writes next for it would land in /etc."""
    folder = Path(call.folders["configFolder"])
    folder.rename(folder.with_name("config.mine"))
    folder.symlink_to("/etc")
    return "linked"


def _base_link(call: Any) -> str:
    """Its whole folder leads elsewhere."""
    away = Path("/root/away")
    shutil.copytree(call.base, away, symlinks=True)
    call.base.rename(call.base.with_name("mine"))
    call.base.symlink_to(away)
    return "linked"


def _base_gone(call: Any) -> str:
    shutil.rmtree(call.base)
    return "removed"


def _heartbeat_link(call: Any) -> str:
    path = Path(call.folders["heartbeatFile"])
    path.unlink(missing_ok=True)
    path.symlink_to("/etc/shadow")
    return "linked"


def _flicker(call: Any) -> str:
    """Its status is a file, a link, a fifo, a folder and nothing, by turns, for as long as somebody reads it."""
    path = Path(call.folders["statusFolder"], f"{call.stem}.status")
    good = path.read_bytes()
    ends = time.monotonic() + 3.0
    turns = 0
    while time.monotonic() < ends:
        turns += 1
        path.unlink(missing_ok=True)
        match turns % 4:
            case 0:
                path.symlink_to("/etc/shadow")
            case 1:
                os.mkfifo(path)
            case 2:
                path.write_bytes(good[: turns % len(good)])
            case _:
                path.symlink_to(path.name)
    path.unlink(missing_ok=True)
    path.write_bytes(good)
    return "turned"


ATTACKS: dict[str, Callable[[Any], object]] = {
    "keys": _keys,
    "secrets": _secrets,
    "neighbours": _neighbours,
    "wire": _wire,
    "escape": _escape,
    "manifest": _manifest,
    "state": _state,
    "status-link": _status_link,
    "status-fifo": _status_fifo,
    "status-huge": _status_huge,
    "status-deep": _status_deep,
    "status-folder-link": _status_folder_link,
    "config-link": _config_link,
    "base-link": _base_link,
    "base-gone": _base_gone,
    "heartbeat-link": _heartbeat_link,
    "flicker": _flicker,
}
