# SPDX-License-Identifier: Apache-2.0
"""Committer of SELinux labels: restorecon gives the paths that provisioning wrote what the system's own policy says.

Runs as root, after everything was written, only where SELinux is on. It writes no file, and must never go through a
link or relabel a path that it was not told.
"""

import os
from collections.abc import Callable, Iterator

from ipc.channel import Channel
from ipc.errors import CommitError
from ipc.messages import CommitLabels
from workers.committers.commit import Workplace, serve
from workers.committers.home_folder import SKELETON, inhabitants

AT_A_TIME = 256


def label(request: CommitLabels, work: Workplace) -> str:
    """Have them labelled; the answer says how many there were, or that this system lacks the program."""
    paths = [path for path in dict.fromkeys(_all(request, work)) if os.path.lexists(work.at(path))]
    if any(not path.startswith("/") for path in paths):
        raise CommitError("a path to label is not absolute")
    if work.tools.find("restorecon") is None:
        return f"SELinux is on, and there is no restorecon: {len(paths)} paths keep the labels that they were made with"
    for start in range(0, len(paths), AT_A_TIME):
        some = [str(work.at(path)) for path in paths[start : start + AT_A_TIME]]
        work.tools.run_well("restorecon", "-F", "--", *some)
    return f"{len(paths)} paths have the labels that the system's policy names"


def _all(request: CommitLabels, work: Workplace) -> Iterator[str]:
    """The paths; for a home that was made, what came from the skeleton with it."""
    yield from request.paths
    content = tuple(inhabitants(work.at(SKELETON))) if request.homes else ()
    for home in request.homes:
        yield home
        yield from (f"{home}/{path}" for path in content)


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry (workers.runtime)."""
    serve(channel, lock, {CommitLabels: label})
