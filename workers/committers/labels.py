# SPDX-License-Identifier: Apache-2.0
"""Committer of SELinux labels: restorecon gives the paths that provisioning wrote what the system's own policy says.

Runs as root, after everything was written, only where SELinux is on; what is below a home it can't see itself. It
writes no file, and must never have a path relabelled that it was not told.
"""

from collections.abc import Callable, Iterator

from ipc.channel import Channel
from ipc.errors import CommitError
from ipc.messages import CommitLabels
from workers.committers.commit import Workplace, serve
from workers.committers.home_folder import SKELETON, inhabitants
from workers.committers.tools import Tools
from workers.companion import companion

# Paths of 1024 letters; one request holds so many.
AT_A_TIME = 128


def label(request: CommitLabels, work: Workplace) -> str:
    """Have them labelled, as far as they are there; the answer says so, or that this system lacks the program."""
    paths = list(dict.fromkeys(_all(request, work)))
    if any(not path.startswith("/") for path in paths):
        raise CommitError("a path to label is not absolute")
    if not work.tools.find("restorecon"):
        return "SELinux is on, and there is no restorecon: what was written keeps the labels that it was made with"
    for start in range(0, len(paths), AT_A_TIME):
        some = [str(work.at(path)) for path in paths[start : start + AT_A_TIME]]
        work.tools.run_well("restorecon", "-i", "-F", "--", *some)
    return f"of {len(paths)} paths, all that are there have the labels that the system's policy names"


def _all(request: CommitLabels, work: Workplace) -> Iterator[str]:
    """The paths; for a home that was made, what came from the skeleton with it."""
    yield from request.paths
    content = tuple(inhabitants(work.at(SKELETON))) if request.homes else ()
    for home in request.homes:
        yield home
        yield from (f"{home}/{path}" for path in content)


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry (workers.runtime)."""
    with companion() as ask_companion:
        serve(channel, lock, {CommitLabels: label}, Tools(ask_companion))
