# SPDX-License-Identifier: Apache-2.0
"""Packages on a machine that wants some of them signed: who counts, who does not, and what else is refused."""

from base64 import b64encode
from collections.abc import Iterator

import pytest

from supervisor.extensions import trust
from supervisor.policy_files import Places
from tests.fabric.handler_packages import Package
from tests.fabric.handlers_vm import CONFIG, HandlersVm, Wish, handlers_vm
from tests.fabric.package_signing import Signer

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

RULES = b"""[[extensions]]
name = "Signed.*"
why = "a test wants to know who has made them"
signature_required = true
"""
STATE = "/var/lib/agent-supervisor/handlers"
# Elsewhere than on any other machine: committers get to know it by the spawner alone.
LIB = "/srv/elsewhere"


@pytest.fixture(scope="module")
def signer() -> Signer:
    return Signer.make("A publisher")


@pytest.fixture(scope="module")
def vm(signer: Signer) -> Iterator[HandlersVm]:
    image = {f"{Places().overrides}/50-extensions.toml": RULES, f"{trust.FOLDER}/publisher.pem": signer.authority}
    with handlers_vm(CONFIG + f"Lib.Dir={LIB}\n".encode(), image=image) as made:
        yield made


def package(name: str, signed_as: str = "") -> Package:
    publisher, _, kind = (signed_as or name).rpartition(".")
    return Package(name, manifest={"signingInfo": {"type": kind.upper(), "publisher": publisher, "version": "1.0.0"}})


def signed(made: Package, signature: bytes) -> Wish:
    return Wish(made, more={"signature": b64encode(signature).decode()})


def told(vm: HandlersVm, handler: str) -> tuple[str, int, str]:
    status = vm.handler_status(handler)
    return status["status"], status["code"], status.get("formattedMessage", {}).get("message", "")


def test_who_has_signed_counts_and_what_is_wrong_is_fetched_elsewhere_or_refused(
    vm: HandlersVm, signer: Signer
) -> None:
    good, other, renamed = package("Signed.Good"), package("Signed.Other"), package("Signed.New", "Signed.Former")
    stranger = Signer.make("A publisher")
    cut, broken = Package("Free.Cut"), Package("Free.Broken")
    wishes = (
        signed(good, signer.sign(good.zipped())),
        Wish(package("Signed.Never")),
        signed(other, signer.sign(good.zipped())),
        signed(package("Signed.Stranger"), stranger.sign(package("Signed.Stranger").zipped())),
        signed(renamed, signer.sign(renamed.zipped())),
        Wish(cut, places=(cut.wrong("truncated"), cut.zipped())),
        Wish(broken, places=(broken.wrong("climber"),)),
        Wish(Package("Free.Empty"), places=(Package("Free.Empty").wrong("no-manifest"),)),
        # Nobody asks for its signature: that of another one is told, and no reason to leave it.
        signed(Package("Free.Odd"), signer.sign(good.zipped())),
    )
    vm.until_ended(vm.publish(*wishes), 60.0)
    for handler in ("Signed.Good", "Free.Cut", "Free.Odd"):
        assert told(vm, handler)[:2] == ("Ready", 0), told(vm, handler)
    for handler, code, words in (
        ("Signed.Never", 1009, "has to be signed, and comes without a signature"),
        ("Signed.Other", 1009, "it has to be signed: the signature is over something else"),
        ("Signed.Stranger", 1009, "it has to be signed: who has signed it is not trusted on this machine"),
        ("Signed.New", 1009, "it is signed as another one: signingInfo.type is 'FORMER', and 'New' is expected"),
        ("Free.Broken", 1001, "'../../../../root/climbed' climbs"),
        ("Free.Empty", 1002, "has no HandlerManifest.json"),
    ):
        status, told_code, message = told(vm, handler)
        assert (status, told_code) == ("NotReady", code), message
        assert words in message
    assert "Free.Odd 1.0.0 is not signed: the signature is over something else" in vm.log()
    placed = sorted(f"{each}-1.0.0" for each in ("Signed.Good", "Free.Cut", "Free.Odd"))
    assert sorted(vm.lab.output("ls", STATE).split()) == placed
    assert sorted(vm.lab.output("sh", "-c", f"cd {LIB} && ls -d *.*-*").split()) == placed
    # Of what came to nothing nothing is left, nor is a name of what was fetched.
    assert vm.lab.output("sh", "-c", f"ls -A {LIB} | grep -E '^[.].*-' || true") == ""
    assert "climbed" not in vm.lab.output("ls", "-A", "/root")
