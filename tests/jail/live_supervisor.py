# SPDX-License-Identifier: Apache-2.0
"""Owns a look at the supervisor of a running agent: what the kernel says of each of its threads."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.fabric.lab import Lab
from tests.fabric.scene import Scene, image_files, spawner_pid


@contextmanager
def looked_at() -> Iterator[Callable[[str], set[str]]]:
    """An agent in a lab; gives what maps the beginning of a field of /proc/PID/status to its values in all threads."""
    with Lab(files=image_files()) as lab:
        scene = Scene(lab)
        scene.start_host()
        agent = scene.start_agent()
        try:
            spawner = psutil.Process(spawner_pid(agent))

            def values(field: str) -> set[str]:
                """Empty while there is no supervisor."""
                try:
                    pids = [child.pid for child in spawner.children() if "supervisor.main" in child.cmdline()]
                    tasks = [task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()]
                    lines = [line for task in tasks for line in (task / "status").read_text().splitlines()]
                except (psutil.Error, FileNotFoundError):
                    return set()
                return {line.split()[1] for line in lines if line.startswith(field)}

            yield values
        finally:
            scene.stop_agent(agent)
