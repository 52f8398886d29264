# SPDX-License-Identifier: Apache-2.0
"""Owns how a test asks the workers that packages go through: confined and verified as ever, in a rig of its own."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import NamedTuple

import tests.fabric.vocabulary  # noqa: F401 - whatever comes back is understood
from ipc.codec import encode
from ipc.messages import (
    CommitFailed,
    Committed,
    Message,
    PackageRefused,
    PackageUnpacked,
    PlaceHandler,
    UnpackPackage,
)
from tests.fabric.lab import Lab
from tests.jail.mutants import Mutation
from tests.jail.rigged import HOME, Rig, place_policy, policy_sources
from tests.least.scenario import Reply, reply_of
from tests.least.variants import RIG

LIB = "/var/lib/waagent"
_numbers = count(1)


class Unpacked(NamedTuple):
    """A package as its unpacker answered it; `contents` is a file of the lab."""

    answer: PackageUnpacked
    entries: bytes
    manifest: bytes
    contents: str


@contextmanager
def workers(lab: Lab, mutations: Sequence[Mutation] = (), **changes: tuple[str, str]) -> Iterator[Rig]:
    """A rig in `lab`; `changes` as in `policy_sources`, a kind's dash being a low line."""
    for folder in (HOME, LIB):
        lab.path(folder).mkdir(exist_ok=True, parents=True)
    named = {kind.replace("_", "-"): change for kind, change in changes.items()}
    sources = policy_sources(supervisor=('"supervisor.main"', f'"{RIG}"'), **named)
    with Rig(lab, place_policy(lab, f"packages{next(_numbers)}", sources), mutations, phase="steady") as rig:
        yield rig


def ask(rig: Rig, kind: str, request: Message, given: Sequence[tuple[str, str]], *final: type[Message]) -> Reply:
    """Its answer, with what its descriptors hold. `given` as a Scenario's, contents in hex."""
    frame = encode(request, 0, 0).hex()
    told = [each.__name__ for each in final]
    how = [list(each) for each in given]
    return reply_of(rig.ask("trial", kind=kind, phase="steady", frame=frame, given=how, final=told))


def unpack(lab: Lab, rig: Rig, package: bytes, most_entries: int = 20_000, most_bytes: int = 1 << 30) -> Reply:
    """What the unpacker says; the contents go into a file of the lab that is the last one's."""
    lab.path(f"{HOME}/package").write_bytes(package)
    lab.path(f"{HOME}/contents").write_bytes(b"")
    given = [("file", f"{HOME}/package"), ("record", f"{HOME}/contents")]
    return ask(rig, "unpacker", UnpackPackage(most_entries, most_bytes), given, PackageUnpacked, PackageRefused)


def unpacked(lab: Lab, rig: Rig, package: bytes) -> Unpacked:
    """A package that has to be right."""
    reply = unpack(lab, rig, package)
    answer = reply.last(PackageUnpacked)
    name = f"{HOME}/contents-{next(_numbers)}"
    lab.path(f"{HOME}/contents").rename(lab.path(name))
    entries, manifest = reply.contents[-1]
    return Unpacked(answer, entries, manifest, name)


def place(rig: Rig, what: Unpacked, folder: str, kept: Sequence[str] = (), lib: str = LIB) -> Reply:
    """What the committer says to having it laid down."""
    order = PlaceHandler(lib, folder, what.answer.size, what.answer.sha256, tuple(kept))
    given = [("memfd", what.entries.hex()), ("memfd", what.manifest.hex()), ("file", what.contents)]
    return ask(rig, "handler-files", order, given, Committed)


def commit(rig: Rig, order: Message) -> Reply:
    """What the committer says to an order without files."""
    return ask(rig, "handler-files", order, (), Committed)


def failure(reply: Reply) -> str:
    """Why it was not done."""
    return reply.problem or reply.last(CommitFailed).problem
