# SPDX-License-Identifier: Apache-2.0
"""What holds the opener and its companion: each control stops something, which happens once the control is gone."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc.messages import Openssl
from tests.fabric.lab import Lab
from tests.jail.mutants import Mutation
from tests.jail.rigged import Rig
from tests.opener import made
from tests.opener.asked import PLAIN, certificates, opener
from tests.opener.made import Pair

pytestmark = pytest.mark.root

COMPANION, OPENER = "workers.programs.openssl", "workers.opener.main"
NAMES = Mutation(COMPANION, "if name not in names:", "if False:")
LIMIT = Mutation(OPENER, "if size > MOST_ENVELOPE_BYTES:", "if False:")
ONE_ANSWER = Mutation(
    OPENER, 'raise InputError("envelope", f"{CLOSED}{lacking(ended)}")', "raise InputError(ended.text, '')"
)
A_UID = "profile.identity.uid + (instance"
SHARED_UID = Mutation(
    "supervisor.spawner.children",
    A_UID,
    A_UID.replace("profile.identity.uid", '(60744 if profile.kind == "opener-programs" else profile.identity.uid)'),
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        yield lab


@pytest.fixture(scope="module")
def plain() -> Iterator[Rig]:
    """With all controls, in a lab of its own: two spawners in one would be in each other's way."""
    with Lab() as own, opener(own) as rig:
        yield rig


@pytest.fixture(scope="module")
def transport(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return made.pair(tmp_path_factory.mktemp("controls"), "transport")


def problem(rig: Rig, transport: Pair, envelope: bytes, openssl: Openssl = PLAIN) -> str:
    """What is said instead of opening it."""
    reply = certificates(rig, envelope, transport, openssl)
    answer = reply.messages[-1] if reply.messages else None
    return reply.problem or f"{getattr(answer, 'where', '')}: {getattr(answer, 'problem', '')}"


def test_no_program_is_run_that_policy_does_not_name(lab: Lab, plain: Rig, transport: Pair) -> None:
    envelope, shell = made.envelope(b"x", transport, "-aes128"), Openssl("/usr/bin/sh")
    assert problem(plain, transport, envelope, shell) == "OpenSSL: policy names no program 'sh'"
    with opener(lab, (NAMES,)) as rig:
        # It is run, and does not know what to do with that.
        assert "can't be opened" in problem(rig, transport, envelope, shell)


def test_what_is_too_large_reaches_no_program(lab: Lab, plain: Rig, transport: Pair) -> None:
    junk = bytes((1 << 20) + 1)
    assert "over the limit" in problem(plain, transport, junk)
    with opener(lab, (LIMIT,)) as rig:
        assert "can't be opened" in problem(rig, transport, junk)


def test_why_an_envelope_stays_closed_is_not_told(lab: Lab, plain: Rig, transport: Pair, tmp_path: Path) -> None:
    """Wrong padding, a wrong key and no recipient at all would be three answers, by which keys are found out."""
    stranger = made.pair(tmp_path, "stranger")
    envelope = made.envelope(b"x" * 100, transport, "-aes128")
    ways = (stranger, Pair(stranger.key_file, transport.certificate_file))
    assert len({problem(plain, way, envelope) for way in ways}) == 1
    with opener(lab, (ONE_ANSWER,)) as rig:
        assert len({problem(rig, way, envelope) for way in ways}) == 2


def test_the_two_share_no_uid(lab: Lab, plain: Rig, transport: Pair) -> None:
    both = plain.ask("start", kind="opener")
    files = [plain.proc(both[who]) / "status" for who in ("pid", "companion")]
    found = [next(line for line in file.read_text().splitlines() if line.startswith("Uid:")) for file in files]
    assert [line.split()[1] for line in found] == ["60744", "60748"]
    # Neither is dumpable: to others of its uid they are root's.
    assert [file.stat().st_uid for file in files] == [0, 0]
    plain.ask("finish", serial=both["serial"])
    with opener(lab, (SHARED_UID,)) as rig:
        assert "opener-programs: thread" in problem(rig, transport, b"")
