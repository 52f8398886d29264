# SPDX-License-Identifier: Apache-2.0
"""The jobs of those who have nothing: parser, provisioning worker, vault; and of the verifier, who looks at others."""

from collections.abc import Callable, Iterator

from ipc.messages import (
    AccountFacts,
    CertificateKey,
    ChannelKey,
    ClearFormerVm,
    GoalState,
    InputRefused,
    KeyPair,
    KeyStatus,
    MakeTransportKey,
    Message,
    Ovf,
    ParseChannelKey,
    ParseGoalState,
    ParseKeyStatus,
    ParseMedium,
    ParseOvf,
    ParseVersions,
    PlanComplete,
    PlanProvisioning,
    ProvisioningOptions,
    PublicKey,
    TransportKey,
    Versions,
)
from ipc.secret import Secret
from tests.fabric.documents import GoalState as Published
from tests.fabric.documents import versions_xml
from tests.fabric.host_channel import Channel
from tests.fabric.media import make_medium, make_ovf
from tests.fabric.scene import KEY
from tests.least.place import Place
from tests.least.scenario import Phase, Reply, Scenario
from tests.least.shapes import with_a_real_lib, with_a_real_lib64, with_a_real_usr_lib64

PASSWORD = "Correct-Horse-7-Battery"  # what is to be hashed
CUSTOM_DATA = bytes(range(256)) * 1024
MEDIUM = "/run/rig/medium"
OVF = make_ovf("azureuser", PASSWORD, "vm1", (KEY,), CUSTOM_DATA)
# What no worker is asked but one.
STRANGE = ClearFormerVm("x")
PLANNED = [
    "SetHostName", "CreateAccount", "SetPassword", "GrantSudo", "ConfigureSshd", "PlaceKeys", "PlaceKeyPair",
    "StoreCustomData", "LockRootPassword", "PlanComplete",
]  # fmt: skip


def scenarios() -> Iterator[Scenario]:
    yield from _of_parser()
    yield from _of_provisioning()
    two: tuple[Phase, ...] = ("provisioning", "steady")
    for when in two:
        yield Scenario("vault", "a transport key", MakeTransportKey(730), (TransportKey,), _is_a_key, phase=when)
    for shape, folder in (
        (with_a_real_lib, "/usr/lib"),
        (with_a_real_lib64, "/lib64"),
        (with_a_real_usr_lib64, "/usr/lib64"),
    ):
        name = f"a machine {shape.__name__.replace('_', ' ')}"
        about = frozenset({folder, f"{folder} rx, not ro"})
        yield Scenario(
            "vault", name, MakeTransportKey(730), (TransportKey,), _is_a_key, shape, about=about, phase="steady"
        )
    yield _bug("vault", MakeTransportKey(10**12), "steady")
    for of in ("parser", "hostname", "custom-data-here", "vault"):
        phases: tuple[Phase, ...] = ("boot", "provisioning", "steady")
        for phase in phases if of == "parser" else phases[1:2]:
            yield Scenario("verifier", f"a look at {of}", None, (), _is_in_order, of=of, phase=phase)
    about = frozenset({"memory"})
    yield Scenario(
        "verifier", "a look at many mounts", None, (), _is_in_order, _many_mounts, of="hostname", about=about
    )


def _of_parser() -> Iterator[Scenario]:
    for reader, form in (("udf", "udf"), ("iso", "iso")):
        image = make_medium(OVF, form)
        yield Scenario(
            "parser",
            f"a medium, {reader}",
            ParseMedium(reader, len(image)),
            (Ovf,),
            _is_the_ovf,
            prepare=lambda place, image=image: place.write(MEDIUM, image),  # type: ignore[misc]
            given=(("file", MEDIUM),),
        )
    yield _parse("an OVF", ParseOvf(), OVF, Ovf, _is_the_ovf)
    for phase in ("provisioning", "steady"):
        goal_state = Published(7).xml().encode()
        yield _parse("a goal state", ParseGoalState(), goal_state, GoalState, _is_goal_state_7, phase)
        versions = versions_xml("2015-04-05", ("2012-11-30",)).encode()
        yield _parse("versions", ParseVersions(), versions, Versions, _are_the_versions, phase)
        status = Channel("enforce").status().encode()
        yield _parse("a key status", ParseKeyStatus(), status, KeyStatus, _is_the_status, phase)
        key = Channel("enforce").new_key(0).encode()
        yield _parse("a key of the channel", ParseChannelKey(), key, ChannelKey, _is_the_key, phase)
    yield _parse("no document", ParseVersions(), b"<Versions><", InputRefused, _is_refused)
    yield _bug("parser", STRANGE)


def _parse(
    name: str,
    request: Message,
    document: bytes,
    final: type[Message],
    check: Callable[[Place, Reply], None],
    phase: Phase = "provisioning",
) -> Scenario:
    return Scenario("parser", name, request, (final,), check, given=(("memfd", document),), phase=phase)


def _of_provisioning() -> Iterator[Scenario]:
    ovf = Ovf(
        version="1.0",
        host_name="vm1",
        user_name="azureuser",
        password=Secret(PASSWORD),
        disable_ssh_password_authentication=False,
        public_keys=(PublicKey("/home/azureuser/.ssh/authorized_keys", "", f"{KEY}\n"),),
        key_pairs=(KeyPair("/home/azureuser/.ssh/id_rsa", "0" * 40),),
        provision_guest_agent=True,
        has_custom_data=True,
    )
    options = ProvisioningOptions("6", 10, "a0" * 32, False, True, True, "/home", 180)
    certificate = CertificateKey("0" * 40, KEY, has_private_key=True)
    request = PlanProvisioning(ovf, options, AccountFacts(False, 0, 0, "", 1000), (certificate,))
    text = make_ovf(custom_data=CUSTOM_DATA).partition(b"CustomData>")[2].partition(b"<")[0]
    yield Scenario("provisioning", "a whole plan", request, (PlanComplete,), _is_the_plan, given=(("memfd", text),))
    yield _bug("provisioning", STRANGE)


def _bug(kind: str, order: Message, phase: Phase = "provisioning") -> Scenario:
    """An order at which it comes to grief. However it ends of that, its log tells where."""
    name = "a fault, and where it was"
    return Scenario(kind, name, order, (), _is_told, about=frozenset({"no-files"}), phase=phase)


def _is_told(_: Place, reply: Reply) -> None:
    assert reply.problem.partition(" ended with ")[2] in {"1", "70"}, reply.problem
    assert "Traceback" in reply.log


def _is_the_ovf(_: Place, reply: Reply) -> None:
    ovf = reply.last(Ovf)
    assert (ovf.user_name, ovf.host_name, len(ovf.public_keys)) == ("azureuser", "vm1", 1)
    text, document = reply.contents[-1]
    assert len(text) > len(CUSTOM_DATA)
    assert PASSWORD.encode() not in document


def _is_goal_state_7(_: Place, reply: Reply) -> None:
    assert reply.last(GoalState).incarnation == "7"


def _are_the_versions(_: Place, reply: Reply) -> None:
    assert reply.last(Versions).preferred == "2015-04-05"


def _is_the_status(_: Place, reply: Reply) -> None:
    assert (reply.last(KeyStatus).on, reply.last(KeyStatus).wireserver) == (True, "enforce")


def _is_the_key(_: Place, reply: Reply) -> None:
    assert len(reply.last(ChannelKey).key.reveal()) == 64


def _is_refused(_: Place, reply: Reply) -> None:
    reply.last(InputRefused)


def _is_the_plan(_: Place, reply: Reply) -> None:
    assert reply.last(PlanComplete).proposals == len(PLANNED) - 1
    assert [type(message).__name__ for message in reply.messages] == PLANNED
    assert reply.contents[PLANNED.index("StoreCustomData")] == (CUSTOM_DATA,)


def _many_mounts(place: Place) -> None:
    """A table of mounts that is as long as on a machine of containers."""
    folder = "/run/rig/mounts"
    place.folder(folder)
    one = f"name={folder}/$(printf %0250d $n); mkdir $name; mount -n --rbind /run/rig $name"
    place.run("sh", "-ec", f"mount -n -t tmpfs m {folder}; for n in $(seq 7); do {one}; done")
    place.finally_run("umount", "-R", folder)


def _is_a_key(_: Place, reply: Reply) -> None:
    assert reply.last(TransportKey).certificate.startswith("-----BEGIN CERTIFICATE")


def _is_in_order(_: Place, reply: Reply) -> None:
    assert not reply.problem, f"{reply.problem} {reply.log}"
