# SPDX-License-Identifier: Apache-2.0
"""The companion that runs the tenant's own program where no systemd can (provisioning.md 8), as a child in its cgroup.

Root with the few capabilities of its policy, which are the program's, too. Whatever the program leaves running ends
with this process's cgroup.
"""

import subprocess
from collections.abc import Callable

from ipc.channel import Channel
from ipc.errors import CommitError, UnpermittedMessage
from ipc.messages import Message, ProgramEnded, ProgramFailed, RunScript
from workers.programs import runner
from workers.programs.serving import serve

ENVIRONMENT = {"PATH": runner.PATH, "HOME": "/root", "LANG": "C.UTF-8"}


def run_script(request: Message, descriptors: tuple[int, ...]) -> Message:
    """Run it, its output going to the one descriptor. ProtocolViolation for any other request."""
    if not isinstance(request, RunScript) or len(descriptors) != 1 or request.path[:1] != "/" or "\0" in request.path:
        raise UnpermittedMessage(f"{type(request).__name__} with {len(descriptors)} descriptors is no request here")
    try:
        process = runner.start(
            ["/bin/sh", request.path] if request.with_shell else [request.path],
            stdin=subprocess.DEVNULL,
            stdout=descriptors[0],
            stderr=descriptors[0],
            env=ENVIRONMENT,
            start_new_session=True,
        )
    except CommitError as error:
        return ProgramFailed(error.problem[:1000])
    in_time = runner.wait(process, request.timeout_s)
    return ProgramEnded(process.wait(), timed_out=not in_time)


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Companion entry."""
    serve(channel, lock, run_script)
