# SPDX-License-Identifier: Apache-2.0
"""Owns the experiments on the table of requests: what `once` and `after` hold back gets through without them.

Runs in the test. A worker gone astray sends each message itself; the real supervisor's table judges it.
"""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from ipc.codec import encode
from ipc.messages import (
    ArtifactsProfile,
    BlobFetched,
    BlobInFile,
    BlobStored,
    CertificateFile,
    CertificatesOpened,
    ChannelKey,
    CommandStanding,
    CommitFailed,
    Committed,
    ConfigureSshd,
    Connector,
    CreateAccount,
    EgressGuarded,
    EventRecord,
    ExtensionEvents,
    ExtensionPolicyFile,
    ExtensionsGoalState,
    ExtensionStatus,
    GoalState,
    GrantSudo,
    GrantWatched,
    HandlerManifest,
    Heartbeat,
    HostingEnvironment,
    InstanceMetadata,
    KeyStatus,
    LockRootPassword,
    Message,
    Ovf,
    PackageChoice,
    PackageRefused,
    PackageUnpacked,
    PackageVerified,
    PasswordHashed,
    PasswordOpened,
    PlaceKeyPair,
    PlaceKeys,
    PlanComplete,
    PluginVersions,
    RedirectAttached,
    RedirectLoaded,
    RefusalsHeard,
    RemoteAccess,
    SetHostName,
    SetPassword,
    SignatureRefused,
    SocketsMade,
    StatusBlob,
    StoreCustomData,
    TransferFailed,
    TransportKey,
    Verification,
    Versions,
    VmSettings,
    WaagentPolicyRead,
)
from ipc.messages.host_documents import EARLIEST
from ipc.secret import Secret
from policy.profile import Profile, Request
from tests.jail.rigged import Rig
from tests.least.variants import RESIDENTS, Policy, Variants

MODULES = {"workers.insistent": "tests.least.insistent"}
PLAN = ExtensionsGoalState(
    "Fabric",
    EARLIEST,
    "1",
    "",
    "",
    False,
    StatusBlob("", "BlockBlob"),
    "",
    required_features=(),
    families=(),
    plugins=(),
)
# One of each that some policy lets a worker send.
SAMPLES: dict[str, Message] = {
    type(message).__name__: message
    for message in (
        Ovf("1.0", "vm", "user", None, True, (), (), True, False),
        GoalState("1", "c", "", None),
        Versions("x", ()),
        PLAN,
        VmSettings("1.0.8.177", "1.0", PLAN),
        CertificateFile("1", ""),
        HostingEnvironment("vm", "role", "deployment"),
        RemoteAccess("1", ()),
        ArtifactsProfile(False),
        InstanceMetadata("here", "", "", "", 0, True),
        PluginVersions(("2015-09-01",)),
        ExtensionEvents((), ()),
        PackageChoice("1.0", ("https://a.example/p",)),
        HandlerManifest("install", "enable", "update", "disable", "uninstall"),
        ExtensionStatus("", "", "", "success", 0, ""),
        Heartbeat("Ready", 0, ""),
        ExtensionPolicyFile("0.1.0", False, False, ()),
        KeyStatus("2.0", on=True, delivery="http"),
        ChannelKey("00000000-0000-0000-0000-000000000000", Secret("00" * 32), ""),
        SetHostName("vm"),
        CreateAccount("user", "/home/user"),
        SetPassword("user", Secret("$6$a$b")),
        GrantSudo("user", True),
        ConfigureSshd(True, 180),
        PlaceKeys("user", "/home/user", ".ssh/authorized_keys", ("ssh-rsa AAAA",)),
        PlaceKeyPair("user", "/home/user", ".ssh/id_rsa", "0" * 40, "ssh-rsa AAAA"),
        PasswordHashed(Secret("$6$a$b")),
        StoreCustomData(0),
        LockRootPassword(),
        PlanComplete(0),
        Committed(()),
        CommitFailed("problem", False),
        CommandStanding(is_known=False, is_running=False),
        Verification((), 1),
        TransportKey(Secret("key"), "certificate"),
        EgressGuarded("fact"),
        RefusalsHeard(),
        SocketsMade(),
        Connector(0),
        RedirectAttached("fact"),
        RedirectLoaded("fact"),
        GrantWatched(),
        CertificatesOpened((), ()),
        PasswordOpened(),
        BlobFetched(0, "0" * 64),
        BlobStored(),
        BlobInFile(0),
        TransferFailed(0, "problem"),
        PackageVerified("signer"),
        SignatureRefused("problem"),
        PackageUnpacked(0, 0, "0" * 64),
        PackageRefused("problem"),
        EventRecord("name", "1.0", "operation", True, "message", 0),
        WaagentPolicyRead(is_there=False),
    )
}


class Row(NamedTuple):
    """One row of the table: kind and request; `held` and `loose` are a kind each, with its limits and without."""

    kind: str
    request: Request
    held: str
    loose: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.request.message} in {self.request.phase}"


def rows(policy: Policy, variants: Variants) -> Iterator[Row]:
    """Every row that is limited, with the two variants that try it."""
    for kind, profile in sorted(policy.profiles.items()):
        limited = [request for request in profile.requests if request.once or request.after]
        if kind in RESIDENTS or not limited:
            continue
        held, loose = variants.add(_astray(profile)), variants.add(_astray(_without_limits(profile)))
        yield from (Row(kind, request, held, loose) for request in limited)


def problems(rig: Rig, row: Row, profile: Profile) -> Iterator[str]:
    """What is not as it has to be with this row."""
    request, way = row.request, _way(profile, row.request)
    if request.once:
        twice = [*way, request.message, request.message]
        yield from _compare(rig, row, twice, f"{request.message} is permitted to {row.held} only once")
    if request.after:
        at_once = [request.message]
        yield from _compare(
            rig, row, at_once, f"{request.message} is permitted to {row.held} only after {request.after}"
        )


def _compare(rig: Rig, row: Row, names: list[str], refusal: str) -> Iterator[str]:
    """With its limits the last message is refused, without them it is heard."""
    frames = [encode(SAMPLES[name], 0).hex() for name in names]
    held = rig.ask("insist", kind=row.held, phase=row.request.phase, frames=frames)
    if held.get("heard") != names[:-1] or refusal not in held.get("problem", ""):
        yield f"{row}: {names}: with its limits: {held}"
    loose = rig.ask("insist", kind=row.loose, phase=row.request.phase, frames=frames)
    if loose.get("heard") != names:
        yield f"{row}: {names}: without its limits: {loose}"


def _way(profile: Profile, request: Request) -> list[str]:
    """The messages that have to come before `request`."""
    before = {each.message: each.after for each in profile.requests if each.phase == request.phase}
    way: list[str] = []
    name = before[request.message]
    while name:
        way.insert(0, name)
        name = before[name]
    return way


def _astray(profile: Profile) -> Profile:
    """As the kind is, with the module that sends whatever it is told; forked, as that one has no program of its own."""
    return msgspec.structs.replace(profile, module="workers.insistent", start="fork", programs="")


def _without_limits(profile: Profile) -> Profile:
    requests = tuple(msgspec.structs.replace(request, once=False, after="") for request in profile.requests)
    return msgspec.structs.replace(profile, requests=requests)
