# SPDX-License-Identifier: Apache-2.0
"""Owns the answer to "may this worker send this message now?": the table is made of the policies' requests.

Runs in the supervisor. What it refuses ends the worker; it never answers a sender.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from ipc.errors import BadDescriptor, UnpermittedMessage
from ipc.messages import (
    BlobFetched,
    CertificateFile,
    CertificatesOpened,
    CommandStanding,
    EgressGuarded,
    ExtensionsGoalState,
    ForwardRequest,
    GrantWatched,
    InputRefused,
    Message,
    Ovf,
    PackageUnpacked,
    PasswordOpened,
    RedirectAttached,
    RedirectLoaded,
    RefusalsHeard,
    SocketsMade,
    StoreCustomData,
    VmSettings,
    WaagentPolicyRead,
    WorkerReady,
)
from ipc.messages.egress import SOCKETS_AT_ONCE
from policy.profile import Profile, Request

Phase = Literal["boot", "provisioning", "steady"]
PHASES: tuple[Phase, ...] = ("boot", "provisioning", "steady")
# What any worker may say in any phase, once: that it is ready, and that its input was unusable.
ANY_PHASE = (WorkerReady.__name__, InputRefused.__name__)
# Descriptors that come with a worker's message; with any other they would only stay open.
CARRIED = {
    Ovf.__name__: 2,
    StoreCustomData.__name__: 1,
    EgressGuarded.__name__: 2,
    RefusalsHeard.__name__: 1,
    SocketsMade.__name__: SOCKETS_AT_ONCE,
    RedirectAttached.__name__: 4,
    RedirectLoaded.__name__: 2,
    GrantWatched.__name__: 1,
    ForwardRequest.__name__: 1,
    ExtensionsGoalState.__name__: 2,
    VmSettings.__name__: 2,
    CertificateFile.__name__: 1,
    CertificatesOpened.__name__: 2,
    PasswordOpened.__name__: 1,
    BlobFetched.__name__: 1,
    WaagentPolicyRead.__name__: 1,
    PackageUnpacked.__name__: 2,
}
# A plan has at most 256 key files and a handful of other proposals. More is a flood, and would only fill our memory.
MOST_MESSAGES = 300


class Table:
    """(kind, message, phase) -> permit. Phases advance one way and only here."""

    def __init__(self, profiles: Iterable[Profile], entered: Callable[[Phase], None] = lambda _: None) -> None:
        """`entered` is told of each phase that begins."""
        self._rows: dict[tuple[str, str, str], Request] = {
            (profile.kind, request.message, request.phase): request
            for profile in profiles
            for request in profile.requests
        }
        self._phase: Phase = "boot"
        self._entered = entered

    @property
    def phase(self) -> Phase:
        return self._phase

    def advance(self, phase: Phase) -> None:
        """Enter `phase`; going back is a fault of the supervisor itself."""
        if PHASES.index(phase) < PHASES.index(self._phase):
            raise ValueError(f"phase {self._phase} is not followed by {phase}")
        self._phase = phase
        self._entered(phase)

    def check(self, kind: str, message: Message, already_sent: Sequence[str], descriptors: int = 0) -> None:
        """UnpermittedMessage unless `kind` may send `message` now, having sent `already_sent` in its life so far;
        BadDescriptor unless it came with as many descriptors as it has to."""
        name = type(message).__name__
        if name in ANY_PHASE:
            once, after = True, ""
        else:
            row = self._rows.get((kind, name, self._phase))
            if row is None:
                raise UnpermittedMessage(f"{name} is not permitted to {kind} in phase {self._phase}")
            once, after = row.once, row.after
        if once and name in already_sent:
            raise UnpermittedMessage(f"{name} is permitted to {kind} only once")
        if after and after not in already_sent:
            raise UnpermittedMessage(f"{name} is permitted to {kind} only after {after}")
        if len(already_sent) >= MOST_MESSAGES:
            raise UnpermittedMessage(f"more than {MOST_MESSAGES} messages from one {kind}")
        due = int(message.is_running) if isinstance(message, CommandStanding) else CARRIED.get(name, 0)
        if descriptors != due:
            raise BadDescriptor(f"{name} came with {descriptors} descriptors")
