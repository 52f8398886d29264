# SPDX-License-Identifier: Apache-2.0
"""Committer of the host name: /etc/hostname and the kernel's own (provisioning.md 8). Root with CAP_SYS_ADMIN.

It must never accept a name that is not a host name, whoever asked.
"""

import os
import socket
from collections.abc import Callable

from ipc.channel import Channel
from ipc.errors import CommitError
from ipc.messages import CommitHostName
from workers.committers import atomic_file
from workers.committers.commit import Workplace, serve

FILE = "/etc/hostname"


def set_host_name(request: CommitHostName, work: Workplace) -> str:
    """File first: a name that can't be kept over a reboot is not set at all."""
    name = request.host_name
    if "\n" in name or "\0" in name or len(name.encode()) > 64:
        raise CommitError("not a host name")
    if atomic_file.write(work.at(FILE), f"{name}\n".encode(), 0o644):
        work.wrote(FILE)
    if os.uname().nodename != name:
        socket.sethostname(name)
    if os.uname().nodename != name:
        raise CommitError("the kernel shows another host name than the one set", changed=True)
    return f"host name {name}"


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry (workers.runtime)."""
    serve(channel, lock, {CommitHostName: set_host_name})
