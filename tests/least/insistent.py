# SPDX-License-Identifier: Apache-2.0
"""A worker that sends back each message that it gets, with the descriptors that such a message has to come with.

Runs in a worker's confinement, in its own module's place, to try what the table of requests holds back.
"""

import os
from collections.abc import Callable
from importlib import import_module

from ipc.channel import Channel
from ipc.errors import ChannelClosed
from ipc.messages import VOCABULARIES, WorkerReady

# It speaks all of them: what it says is held back by the table alone.
for _module in VOCABULARIES:
    import_module(_module)
CARRIED = {
    "Ovf": 2,
    "StoreCustomData": 1,
    "EgressGuarded": 2,
    "RefusalsHeard": 1,
    "SocketsMade": 4,
    "RedirectAttached": 4,
    "RedirectLoaded": 2,
    "GrantWatched": 1,
    "ExtensionsGoalState": 2,
    "VmSettings": 2,
    "CertificateFile": 1,
    "CertificatesOpened": 2,
    "PasswordOpened": 1,
    "BlobFetched": 1,
    "PackageUnpacked": 2,
    "WaagentPolicyRead": 1,
}
# The rig sets it in every module that it puts in a worker's place.
EARLY = ""


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Until the channel closes, which is when it is killed for it."""
    lock()
    channel.send(WorkerReady())
    try:
        while True:
            message, _ = channel.receive()
            carried = CARRIED.get(type(message).__name__, 0)
            channel.send(message, tuple(os.dup(0) for _ in range(carried)))
    except ChannelClosed:
        return
