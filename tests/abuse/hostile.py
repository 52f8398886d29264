# SPDX-License-Identifier: Apache-2.0
"""A parser that an input can take over: most documents it parses as the real one does, some make it attack.

Runs in a worker's confinement, started by the real spawner under the name workers.hostile. What it finds out it writes
to its log, since that is all that it has.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

from ipc.channel import Channel
from ipc.descriptors import close_all, read_sealed
from ipc.messages import ParseVersions, PlanProvisioning, Versions
from tests.abuse import broker, cases, false_plans, zmtp
from tests.abuse.target import Target
from workers.parser import bounds, versions
from workers.runtime import Answer, serve_once

# The attack to make before the first request, given by the rig.
EARLY = ""
LONGEST_JOB = 65536
ATTACKS = broker.ATTACKS | zmtp.ATTACKS


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Serve one request, or attack."""
    if EARLY:
        (broker.EARLY | zmtp.EARLY)[EARLY](channel, lock)
    handler = _Handler(channel)
    serve_once(channel, lock, {ParseVersions: handler.on_request, PlanProvisioning: false_plans.on_plan})


class _Handler:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def on_request(self, _: Any, descriptors: tuple[int, ...]) -> Iterator[Answer]:
        """The real parser's answer, or the attack that the document names."""
        document = read_sealed(descriptors[0], min(bounds.MAX_DOCUMENT_BYTES, LONGEST_JOB))
        if not document.startswith(b"attack "):
            close_all(descriptors)
            yield versions.parse(document)
            return
        name, *words = document.decode().split()[1:]
        target = Target(self._channel, descriptors[1], descriptors[2], tuple(words))
        if name in ATTACKS:
            ATTACKS[name](target)
            return
        report(name, cases.CASES[name], target)
        yield Versions("done", ())


def report(name: str, case: Callable[[Target], object], target: Target) -> None:
    """Make the attempt; one line says what came of it."""
    try:
        case(target)
    except OSError as error:
        os.write(2, f"{name} denied {error.errno}\n".encode())
    except MemoryError:
        os.write(2, f"{name} denied 12\n".encode())
    else:
        os.write(2, f"{name} succeeded\n".encode())
