# SPDX-License-Identifier: Apache-2.0
"""Shows in a fresh interpreter what the two resident root processes load, and who may start programs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from supervisor.spawner.service import COMMON_IMPORTS

ROOT = Path(__file__).resolve().parents[2]

# Each costs memory or brings a parser into a process of root that never ends. (urllib.parse comes with pathlib.)
BANNED = frozenset(
    """
    _ssl aiohttp argparse asyncio click concurrent.futures cryptography email http http.client httpx importlib.metadata
    logging lxml multiprocessing psutil pycdlib pydantic pyroute2 pyseccomp requests rich scapy ssl structlog subprocess
    tomllib trio typer urllib.error urllib.request urllib3 xml zmq.asyncio
    """.split()
)
# pyexpat and zipfile parse what comes from outside; ctypes is the jail's alone and the supervisor has no jail.
BANNED_IN_SUPERVISOR = BANNED | {"_elementtree", "pyexpat", "zipfile"}

REPORT = "import importlib, sys; [*map(importlib.import_module, sys.argv[1:])]; print(*sorted(sys.modules), sep='\\n')"
# What the two load only once they run: the HTTP client, ZeroMQ, and what the spawner's forks are to find.
SUPERVISOR = (
    "supervisor.main",
    "supervisor.wire.host",
    "supervisor.wire.secure_channel",
    "supervisor.wire.key_store",
    "supervisor.guest_proxy_agent",
    "ipc.pair",
    "supervisor.cloud_init",
    "supervisor.changed_vm",
)
SPAWNER = ("supervisor.__main__", "supervisor.spawner.main", "supervisor.spawner.service", *COMMON_IMPORTS)


def loaded_by(*modules: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-I", "-c", REPORT, *modules], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def banned_among(loaded: set[str], banned: frozenset[str]) -> list[str]:
    return sorted(name for name in loaded if any(name == ban or name.startswith(ban + ".") for ban in banned))


@pytest.mark.parametrize(
    ("modules", "banned"),
    [(SUPERVISOR, BANNED_IN_SUPERVISOR), (SPAWNER, BANNED - {"subprocess"})],
    ids=["supervisor", "spawner"],
)
def test_a_resident_root_process_loads_nothing_heavy(modules: tuple[str, ...], banned: frozenset[str]) -> None:
    loaded = loaded_by(*modules)
    assert set(modules) <= loaded
    assert banned_among(loaded, banned) == []


def test_the_ban_would_be_seen() -> None:
    """The check itself: a module that is banned shows, and so does one below it."""
    loaded = loaded_by("http.client")
    assert {"http.client", "email", "ssl"} <= set(banned_among(loaded, BANNED))


# Who may start a program, besides the command line (a process of its own) and the tests.
STARTERS = ("supervisor/spawner/", "supervisor/jail/", "supervisor/cli/", "supervisor/prove/", "workers/programs/")
STARTING_NAMES = frozenset(
    {"execv", "execve", "execvp", "execvpe", "fork", "forkpty", "popen", "posix_spawn", "system"}
)


def starts_programs(tree: ast.Module) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "subprocess" for alias in node.names):
            return True
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "subprocess":
            return True
        if isinstance(node, ast.Attribute) and node.attr in STARTING_NAMES and getattr(node.value, "id", "") == "os":
            return True
    return False


def test_only_named_modules_start_programs() -> None:
    found = [
        str(path.relative_to(ROOT))
        for package in ("ipc", "policy", "supervisor", "workers")
        for path in (ROOT / package).rglob("*.py")
        if starts_programs(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert [path for path in found if not path.startswith(STARTERS)] == []
