# SPDX-License-Identifier: Apache-2.0
"""Owns which rows of the table of requests whole boots really use: the real agent, its table writing down each message.

Runs in the test. A row that no boot uses is one that nobody needs, whatever a rig could make of it.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import cast

from tests.fabric.lab import PlacedFile
from tests.fabric.media import make_ovf
from tests.fabric.scene import KEY, image_files
from tests.fabric.surroundings import Surroundings
from tests.fabric.udf_writer import make_udf
from tests.fabric.vm import QUICK, Vm
from tests.fabric.waiting import WaitedInVain, until
from tests.jail.mutants import Mutation
from tests.least.boots import OFTEN, asks_again, start_of
from tests.least.ground import SELINUX
from tests.least.of_host_documents import SAMPLES
from tests.least.of_tools import RESTORECON
from tests.least.variants import Policy, Variants

Row = tuple[str, str, str]
NOTES = "/run/agent-supervisor/rows"
CALL = f"__import__('tests.least.noting').least.noting.note({NOTES!r}, kind, name, self._phase)"
NOTING = Mutation(
    "supervisor.dispatch",
    "        name = type(message).__name__\n",
    f"        name = type(message).__name__\n        {CALL}\n",
)
MARKER = "/var/lib/waagent/provisioned"
ANOTHER_VM = b"11111111-2222-3333-4444-555555555555"
# The same act in the same phase, by the one of the two kinds that fits the machine.
SAME = {"custom-data": "custom-data-here"}
# Only where overrides grant something: tests/egress/test_grants.py has boots with each of them.
GRANTED = frozenset({"redirect", "forwarder"})
# Whose acts answer somebody else's, whenever that is: one of them in some phase is enough.
WHENEVER = frozenset({"egress", "wire-socket", "witness"})
# The host may switch its channel on at any time; tests/flow/test_secure_channel.py has it on while the agent runs.
CHANNEL = frozenset({("parser", "KeyStatus"), ("parser", "ChannelKey")})
# What handlers bring, which are run only where systemd runs: tests/flow has them through their whole life.
OF_HANDLERS = frozenset(
    ("parser", message)
    for message in ("PackageChoice", "HandlerManifest", "ExtensionStatus", "Heartbeat", "ExtensionPolicyFile")
) | {
    *(("handler-start", message) for message in ("CommandStanding", "Committed", "CommitFailed")),
    *(("handler-files", message) for message in ("Committed", "CommitFailed")),
    *(("unpacker", message) for message in ("PackageUnpacked", "PackageRefused")),
    *(("opener", message) for message in ("PackageVerified", "SignatureRefused")),
    ("parser", "EventRecord"),
    ("storage", "BlobInFile"),
    ("waagent-policy", "WaagentPolicyRead"),
}
NO_NFT = {"/usr/sbin/nft": PlacedFile(b"", 0o644)}
OBSERVED = "a disk of another VM, without nft"
IMAGES: Mapping[str, Mapping[str, bytes | PlacedFile]] = {
    "a first boot": {},
    "a disk that others provisioned": {MARKER: b""},
    OBSERVED: {MARKER: ANOTHER_VM, **NO_NFT},
}
SETTINGS = {
    "a first boot": b"Debug.EtpCollectionPeriod=2\n",
    "a disk that others provisioned": b"Firewall.Mode=off\n",
    OBSERVED: b"Firewall.Mode=observe\n",
}
# What only a host with all that there may be around it brings about.
EVENTS = "/var/log/azure/Publisher.Type/events"
WITH_ALL = {
    "parser": "ExtensionsGoalState VmSettings HostingEnvironment ArtifactsProfile InstanceMetadata PluginVersions "
    "ExtensionEvents",
    "storage": "BlobFetched BlobStored TransferFailed",
}
USER, VISITOR, PASSWORD = "azureuser", "visitor", "Correct-Horse-7-Battery"
OUTSIDER = "import socket; socket.create_connection(('168.63.129.16', 80), 1)"


def used(policy: Policy) -> dict[Row, str]:
    """(kind, message, phase) -> the boot that used it."""
    found: dict[Row, str] = {}
    for name, image in IMAGES.items():
        for row in _boot(policy, dict(image), SETTINGS.get(name, b""), observes=name == OBSERVED):
            found.setdefault(row, name)
    return found


def unused(policy: Policy, found: Iterable[Row]) -> list[str]:
    """Rows of the policy that no boot used. How a committer fails counts as used where it is heard of at all."""
    found = set(found)
    heard = {(kind, phase) for kind, _, phase in found}
    whenever = {(kind, message) for kind, message, _ in found if kind in WHENEVER or (kind, message) in CHANNEL}
    rows = {
        (kind, request.message, request.phase)
        for kind, profile in policy.profiles.items()
        for request in profile.requests
    }
    left = []
    for kind, message, phase in sorted(
        row for row in rows - found if row[0] not in GRANTED and row[:2] not in OF_HANDLERS
    ):
        if (kind, message) in whenever or (kind in WHENEVER and message == "CommitFailed"):
            continue
        if not (message == "CommitFailed" and (kind, phase) in heard) and (SAME.get(kind), phase) not in heard:
            left.append(f"{kind}: {message} in {phase}")
    return left


@contextmanager
def _told(vm: Vm) -> Iterator[None]:
    """What goes wrong comes with the agent's log."""
    try:
        yield
    except (WaitedInVain, OSError) as error:
        error.add_note(vm.scene.log())
        raise


def _boot(policy: Policy, image: dict[str, bytes | PlacedFile], settings: bytes, *, observes: bool) -> set[Row]:
    """The rows that one VM's boot uses, until it has looked at a second goal state, and `observes` somebody else."""
    around = Surroundings.make() if MARKER not in image else None
    placed = _placed(image, settings) | (around.files() if around is not None else {})
    with start_of(Variants(policy), placed, (NOTING,), around) as vm, _told(vm):
        vm.lab.output("sh", "-ec", "; ".join(SELINUX))
        vm.lab.output("sh", "-c", "cp /usr/bin/sleep /run/sshd; /run/sshd 100 >/dev/null 2>&1 & echo $! >/run/sshd.pid")
        vm.scene.steer("channel enforce")
        named = cast("list[str]", vm.scene.publish("certificates=rsa")["thumbprints"])
        pair = (f"/home/{USER}/.ssh/id_rsa", named[0])
        vm.boot(make_udf(make_ovf(USER, PASSWORD, "vm", (KEY,), b"#!/bin/sh\nexit 0\n", key_pairs=[pair])))
        until("Ready", vm.scene.is_ready, 30.0)
        until("the transport key", lambda: "transport key made" in vm.scene.log(), 10.0)
        until("a steady supervisor", lambda: asks_again(vm), 15.0)
        if around is not None:
            _meet_all(vm)
            _be_visited(vm)
        if observes:
            until("somebody else observed", lambda: _is_observed(vm), 15.0)
        return _noted(vm)


def _placed(image: Mapping[str, bytes | PlacedFile], settings: bytes) -> dict[str, bytes | PlacedFile]:
    config = QUICK + OFTEN + b"Provisioning.ExecuteCustomData=y\n" + settings
    tool = PlacedFile(RESTORECON.encode(), 0o755)
    return {**image_files(config), **image, "/usr/sbin/restorecon": tool, "/etc/selinux/file_contexts": b"x\n"}


def _noted(vm: Vm) -> set[Row]:
    return {tuple(json.loads(line)) for line in vm.lab.path(NOTES).read_text().splitlines()}


def _meet_all(vm: Vm) -> None:
    """By each channel a blob comes or goes, one that is not there the first time; and an extension leaves events."""
    vm.lab.output("mkdir", "-p", EVENTS)
    vm.lab.write(f"{EVENTS}/1.json", (SAMPLES / "event-file/list.json").read_bytes())
    vm.scene.steer("fault status:status=500")
    vm.scene.steer("fault blob:status=404*1")
    vm.scene.publish(profile={"onHold": False})
    until("a transfer that fails", lambda: ("storage", "TransferFailed", "steady") in _noted(vm), 15.0)
    vm.scene.publish(profile={"onHold": False})
    rows = {(kind, message, "steady") for kind, messages in WITH_ALL.items() for message in messages.split()}
    until("every document and transfer", lambda: rows <= _noted(vm), 15.0)
    vm.scene.steer("clear")


def _be_visited(vm: Vm) -> None:
    """By an account that the platform asks for and takes back; its labels are the last that it gets."""
    row = json.dumps(["labels", "Committed", "steady"])
    vm.scene.publish(users=[{"name": VISITOR, "password": PASSWORD}])
    until("the visitor's labels", lambda: row in vm.lab.path(NOTES).read_text(), 15.0)
    vm.scene.publish(users=None)
    until("the visitor's end", lambda: f"sudoers line of {VISITOR} removed" in vm.scene.log(), 15.0)


def _is_observed(vm: Vm) -> bool:
    vm.lab.run([sys.executable, "-c", OUTSIDER])
    return '"Connector"' in vm.lab.path(NOTES).read_text()
