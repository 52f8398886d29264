# SPDX-License-Identifier: Apache-2.0
"""Owns how a test asks the real opener: confined and verified as ever, in a rig whose supervisor tells all it hears."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import tests.fabric.vocabulary  # noqa: F401 - whatever comes back is understood
from ipc.codec import encode
from ipc.messages import CertificatesOpened, Message, OpenCertificates, Openssl
from tests.fabric.lab import Lab
from tests.jail.mutants import Mutation
from tests.jail.rigged import HOME, Rig, place_policy, policy_sources
from tests.least.scenario import Reply, reply_of
from tests.least.variants import RIG
from tests.opener.made import Pair

PLAIN = Openssl()


@contextmanager
def opener(lab: Lab, mutations: Sequence[Mutation] = (), **changes: tuple[str, str]) -> Iterator[Rig]:
    """A rig in `lab`; `changes` as in `policy_sources`."""
    lab.path(HOME).mkdir(exist_ok=True)
    sources = policy_sources(supervisor=('"supervisor.main"', f'"{RIG}"'), **changes)
    with Rig(lab, place_policy(lab, "opener", sources), mutations, phase="steady") as rig:
        yield rig


def ask(rig: Rig, request: Message, final: type[Message], *given: bytes) -> Reply:
    """Its answer, with what its descriptors hold. `given` go along as sealed memfds."""
    how = [["memfd", content.hex()] for content in given]
    frame = encode(request, 0, 0).hex()
    return reply_of(rig.ask("trial", kind="opener", phase="steady", frame=frame, given=how, final=[final.__name__]))


def certificates(rig: Rig, envelope: bytes, transport: Pair, openssl: Openssl = PLAIN) -> Reply:
    """What is in an envelope for `transport`."""
    key, certificate = transport.key, transport.certificate
    return ask(rig, OpenCertificates(openssl), CertificatesOpened, envelope, key, certificate)
