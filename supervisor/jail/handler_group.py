# SPDX-License-Identifier: Apache-2.0
"""Owns the cgroup that systemd made for a vendor's command: who lives in it, where they hang, how they are all ended.

Runs in the warden, which is in that cgroup, too, and must never end itself.
"""

import os
import signal
import time
from collections.abc import Iterator

ROOT = "/sys/fs/cgroup"
PATIENCE_S = 5.0
# A bomb is held by its limit of tasks, and no longer forks once all of it are stopped.
PASSES = 200
MOST_SHOWN = 32
MOST_STACK = 2048


class Group:
    """Ours; `root` is where cgroups are mounted. OSError where there is none."""

    def __init__(self, root: str = ROOT) -> None:
        self._folder = _own_folder(root)

    def others(self) -> set[int]:
        """Everybody in it and below, but this process."""
        return living(self._folder) - {os.getpid()}

    def end(self) -> bool:
        """Kill them all; False when some of them are still there after a while."""
        seen: set[int] = set()
        for _ in range(PASSES):
            new = self.others() - seen
            if not new:
                break
            _signal(new, signal.SIGSTOP)
            seen |= new
        ends = time.monotonic() + PATIENCE_S
        while (left := self.others()) and time.monotonic() < ends:
            _signal(left, signal.SIGKILL)
            if all(map(_is_dead, left)):
                return True
            time.sleep(0.005)
        return not left


def living(group: str) -> set[int]:
    """Everybody in the cgroup whose folder that is, and below."""
    found: set[int] = set()
    for folder, _, _ in os.walk(group):
        # Whole: what is left of a number that was cut is a stranger's.
        found.update(map(int, _read(f"{folder}/cgroup.procs", -1).split()))
    return found


def stacks(pids: set[int]) -> Iterator[str]:
    """Where each of them is, as far as the kernel tells."""
    for pid in sorted(pids)[:MOST_SHOWN]:
        words = _read(f"/proc/{pid}/cmdline").replace("\0", " ").strip()
        state = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()[:1]
        stack = _read(f"/proc/{pid}/stack").strip() or f"in {_read(f'/proc/{pid}/wchan') or 'an unknown place'}"
        name = words or _read(f"/proc/{pid}/comm").strip()
        yield f"process {pid} ({''.join(state) or 'gone'}): {_plain(name)[:512]}\n{stack[:MOST_STACK]}"
    if len(pids) > MOST_SHOWN:
        yield f"and {len(pids) - MOST_SHOWN} more"


def _own_folder(root: str) -> str:
    """Of the hierarchy that systemd keeps services by. OSError where it is nobody's own: all others would be in it."""
    unified = os.path.exists(f"{root}/cgroup.controllers")
    name, place = ("", root) if unified else ("name=systemd", f"{root}/systemd")
    folder = dict(line.split(":", 2)[1:] for line in _read("/proc/self/cgroup").splitlines()).get(name, "/")
    if folder == "/" or not os.path.isdir(place + folder):
        raise OSError(0, f"no cgroup of its own below {place}")
    return place + folder


def _signal(pids: set[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _is_dead(pid: int) -> bool:
    """Whether there is nothing left of it but its exit status, which is somebody else's to fetch."""
    return _read(f"/proc/{pid}/stat").rpartition(")")[2].split()[:1] in ([], ["Z"], ["X"])


def _plain(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)


def _read(path: str, most: int = 65536) -> str:
    try:
        with open(path, "rb") as file:
            return file.read(most).decode("utf-8", "replace")
    except OSError:
        return ""
