# SPDX-License-Identifier: Apache-2.0
"""Owns one lab's life on the host side: its cgroups, its overlay, its first process; and their end, whatever happens.

Runs as root in a mount namespace of its own, outside the lab's other namespaces. Its standard input is a lifeline: when
that closes, because the lab is left or its maker was killed, everything goes. It never mounts where others see it.
"""

import base64
import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.fabric import cgroups

# A folder to hide the overlay's parts on, in this process's own mount namespace: any that holds nothing we need.
STAGES = ("/mnt", "/media", "/srv", "/opt")


def main() -> int:
    """Build, report on stdout as one line of JSON, wait, take down."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    order = json.loads(sys.stdin.buffer.readline())
    stage = build_overlay(order)
    wanted = hierarchies_for(order["cgroup"])
    cgroups.sweep(wanted)
    groups = cgroups.make(cgroups.name_for(os.getpid()), wanted)
    try:
        inside = start_inside(order, stage, groups, wanted)
        report = json.loads(inside.stdout.readline() or b"{}") if inside.stdout else {}
        if report:
            told = {"stage": str(stage), "cgroups": {n: str(f) for n, f in groups.items()}, **report}
            print(json.dumps(told), flush=True)
            wait_for_end(inside)
            # The first process takes all others of its pid namespace with it before unshare(1) sees it gone.
            with contextlib.suppress(ProcessLookupError):
                os.kill(report["pid"], signal.SIGKILL if order["init"] else signal.SIGTERM)
        else:
            inside.kill()
        # unshare(1) has something to say about every end by SIGKILL; what matters is why nothing came up at all.
        _, complaints = inside.communicate()
        sys.stderr.buffer.write(b"" if report else complaints)
    finally:
        cgroups.remove(list(groups.values()))
    return 0 if report else 1


def hierarchies_for(mode: str) -> tuple[cgroups.Hierarchy, ...]:
    """mode "host": all that this machine has; "v2": cgroup2 alone."""
    everything = cgroups.hierarchies()
    return everything if mode == "host" else tuple(h for h in everything if h.kind == "cgroup2")


def build_overlay(order: dict[str, Any]) -> Path:
    """Mount the overlay on STAGE/root: upper/ gets all changes, image/ holds the files placed beforehand."""
    needed = [Path.cwd(), Path(sys.base_prefix)]
    stage = next(p for p in map(Path, STAGES) if p.is_dir() and not any(n.is_relative_to(p) for n in needed))
    subprocess.run(["mount", "-n", "-t", "tmpfs", "-o", "mode=0700", "lab", str(stage)], check=True)
    for name in ("upper", "work", "image", "root", "class"):
        (stage / name).mkdir(mode=0o755)
    (stage / "class/dmi/id").mkdir(parents=True)
    (stage / "class/dmi/id/product_uuid").write_text(order["vm_id"] + "\n")
    for path, placed in order["files"].items():
        place(stage / "image", Path(path), placed)
    for folder in order["bound"]:
        make_folder(stage / "image", Path(folder))
    options = f"lowerdir={stage}/image:/,upperdir={stage}/upper,workdir={stage}/work"
    subprocess.run(["mount", "-n", "-t", "overlay", "-o", options, "lab", str(stage / "root")], check=True)
    return stage


def place(image: Path, path: Path, placed: dict[str, Any]) -> None:
    """Write one file of the image layer."""
    folder = make_folder(image, path.parent)
    target = folder / path.name
    target.write_bytes(base64.b64decode(placed["content"]))
    target.chmod(placed["mode"])


def make_folder(image: Path, path: Path) -> Path:
    """The folder `path` in the image layer; every folder on the way looks like the host's of the same name."""
    folder = image
    for part in path.parts[1:]:
        folder /= part
        if not folder.exists():
            folder.mkdir(mode=0o755)
            host = Path("/") / folder.relative_to(image)
            if host.is_dir():
                facts = host.stat()
                os.chown(folder, facts.st_uid, facts.st_gid)
                folder.chmod(facts.st_mode & 0o7777)
    return folder


def start_inside(
    order: dict[str, Any], stage: Path, groups: dict[str, Path], wanted: tuple[cgroups.Hierarchy, ...]
) -> subprocess.Popen[bytes]:
    """unshare(1) and, in the new namespaces, lab_init; both die with this process."""
    mounts = [{"name": h.name, "kind": h.kind, "options": h.options} for h in wanted]
    inner = {
        "root": f"{stage}/root",
        "class": f"{stage}/class",
        "bound": order["bound"],
        "hostname": order["hostname"],
        "init": order["init"],
        "cgroups": mounts if order["cgroup"] == "host" else [{**m, "name": ""} for m in mounts],
    }
    # The cgroup namespace's root is the cgroup in which unshare(1) runs: it joins all of them first.
    join = 'until [ "$1" = -- ]; do echo 0 >"$1/cgroup.procs" || exit 1; shift; done; shift; exec "$@"'
    unshare = "unshare --mount --uts --ipc --net --pid --cgroup --fork --kill-child=KILL --propagation private --"
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", join, "sh", *map(str, groups.values()), "--"]
        + [*unshare.split(), sys.executable, "-m", "tests.fabric.lab_init", json.dumps(inner)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for_end(inside: subprocess.Popen[bytes]) -> None:
    """Until the lifeline closes or the lab's first process is gone."""
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin.buffer, selectors.EVENT_READ)
        pidfd = os.pidfd_open(inside.pid)
        selector.register(pidfd, selectors.EVENT_READ)
        selector.select()
        os.close(pidfd)


if __name__ == "__main__":
    sys.exit(main())
