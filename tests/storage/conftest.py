# SPDX-License-Identifier: Apache-2.0
"""A lab with the account in it, and a rig whose supervisor has one storage worker do one job and says all of it."""

import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from ipc.codec import decode, encode
from ipc.messages import Message
from tests.fabric.authority import Authority
from tests.fabric.lab import PROJECT, Lab, PlacedFile
from tests.fabric.surroundings import ACCOUNT, PROXY, STORAGE, Surroundings
from tests.fabric.waiting import until
from tests.jail.rigged import HOME, Rig, place_policy, policy_sources
from tests.storage.account import METADATA, STRANGER, WIRESERVER

FOLDER = f"{HOME}/account"
RIG = ("supervisor", ('"supervisor.main"', '"tests.least.rig_supervisor"'))
NAMES = (
    f"\n{STORAGE} {ACCOUNT} other.storage.test\n{WIRESERVER} wire.storage.test\n"
    f"{METADATA} metadata.storage.test\n127.0.0.1 here.storage.test\n"
)


class Ground:
    """The lab, and whoever asks its storage workers."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def requests(self) -> list[dict[str, Any]]:
        """What has come to the account since the last look."""
        path = self.lab.path(f"{FOLDER}/requests")
        found = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("")
        return found


def ask(rig: Rig, request: Message, content: bytes | None = None, file: str = "") -> tuple[Message, list[bytes]]:
    """The worker's answer and what its descriptors hold; AssertionError when it ends otherwise. `file` of the lab is
    handed over to be written."""
    given = [["record", file]] if file else [] if content is None else [["memfd", content.hex()]]
    final = ["BlobFetched", "BlobInFile", "BlobStored", "TransferFailed"]
    answer = rig.ask(
        "trial", kind="storage", phase="steady", frame=encode(request, 0, 0).hex(), given=given, final=final
    )
    assert "error" not in answer, answer
    contents = answer["contents"][-1] if answer["contents"] else []
    return decode(bytes.fromhex(answer["frames"][-1])).message, [bytes.fromhex(each) for each in contents]


@pytest.fixture(scope="package")
def ground() -> Iterator[Ground]:
    surroundings = Surroundings.make()
    strange = Authority.make(ACCOUNT).identity
    files = surroundings.files() | {STRANGER: PlacedFile(strange, 0o600)}
    hosts = files["/etc/hosts"]
    assert isinstance(hosts, bytes)
    with Lab(files | {"/etc/hosts": hosts + NAMES.encode()}) as lab:
        for address in (STORAGE, PROXY, METADATA):
            lab.output("ip", "address", "replace", f"{address}/32", "dev", "lo")
        lab.output("mkdir", "-p", FOLDER)
        lab.popen([sys.executable, "-m", "tests.storage.account", FOLDER], cwd=str(PROJECT))
        until("the account listens", lambda: lab.path(f"{FOLDER}/ready").exists())
        yield Ground(lab)


@pytest.fixture(autouse=True)
def nothing_noted(ground: Ground) -> None:
    """Whatever an earlier test left."""
    ground.requests()


@pytest.fixture(scope="package")
def rig(ground: Ground) -> Iterator[Rig]:
    with open_rig(ground, "shipped") as rig:
        yield rig


def open_rig(ground: Ground, name: str, mutations: Sequence[Any] = (), **changes: tuple[str, str]) -> Rig:
    """A rig with the shipped policy, `changes` in it, and `mutations`."""
    policy = place_policy(ground.lab, name, policy_sources(**dict([RIG]), **changes))
    return Rig(ground.lab, policy, mutations, phase="steady")
