# SPDX-License-Identifier: Apache-2.0
"""The parser's jobs once the VM is at work: every document of the host beyond provisioning, and those of handlers."""

from collections.abc import Callable, Iterator
from pathlib import Path

from ipc.messages import (
    ArtifactsProfile,
    CertificateFile,
    EventRecord,
    ExtensionEvents,
    ExtensionPolicyFile,
    ExtensionsGoalState,
    ExtensionStatus,
    HandlerManifest,
    Heartbeat,
    HostingEnvironment,
    InstanceMetadata,
    Message,
    PackageChoice,
    ParseArtifactsProfile,
    ParseCertificateFile,
    ParseEventFile,
    ParseEventRecord,
    ParseExtensionPolicy,
    ParseExtensionsConfig,
    ParseHandlerManifest,
    ParseHeartbeat,
    ParseHostingEnvironment,
    ParseInstanceMetadata,
    ParsePackageManifest,
    ParsePluginVersions,
    ParseRemoteAccess,
    ParseStatusFile,
    ParseVmSettings,
    PluginVersions,
    RemoteAccess,
    VmSettings,
)
from tests.least.place import Place
from tests.least.scenario import Phase, Reply, Scenario

SAMPLES = Path(__file__).resolve().parents[1] / "data"
SECRET = b"Tr0ub4dor"  # what the samples' tokens and protected settings have in them


def scenarios() -> Iterator[Scenario]:
    yield _parse(ParseExtensionsConfig(), "extensions-config/all.xml", ExtensionsGoalState, _is_the_plan)
    yield _parse(ParseVmSettings(), "vm-settings/all.json", VmSettings, _are_the_settings)
    phases: tuple[Phase, ...] = ("provisioning", "steady")
    for phase in phases:
        certificates = "certificate-file/host.xml"
        yield _parse(ParseCertificateFile(), certificates, CertificateFile, _is_the_envelope, phase)
    yield _parse(
        ParseHostingEnvironment(),
        "hosting-environment/host.xml",
        HostingEnvironment,
        lambda _, reply: _same(reply.last(HostingEnvironment).vm_name, "vm_IN_0"),
    )
    yield _parse(
        ParseRemoteAccess(),
        "remote-access/host.xml",
        RemoteAccess,
        lambda _, reply: _same([user.name for user in reply.last(RemoteAccess).users], ["ann", "bob"]),
    )
    yield _parse(
        ParseArtifactsProfile(),
        "artifacts-profile/host.json",
        ArtifactsProfile,
        lambda _, reply: _same(reply.last(ArtifactsProfile).on_hold, True),
    )
    yield _parse(
        ParseInstanceMetadata(),
        "instance-metadata/instance.json",
        InstanceMetadata,
        lambda _, reply: _same(reply.last(InstanceMetadata).location, "westeurope"),
    )
    yield _parse(
        ParsePluginVersions(),
        "plugin-versions/host.json",
        PluginVersions,
        lambda _, reply: _same(reply.last(PluginVersions).versions, ("2012-09-01", "2015-09-01")),
    )
    yield _parse(
        ParseEventFile(),
        "event-file/list.json",
        ExtensionEvents,
        lambda _, reply: _same(len(reply.last(ExtensionEvents).events), 2),
    )
    yield _parse(
        ParseEventRecord(),
        "event-record/json.tld",
        EventRecord,
        lambda _, reply: _same(reply.last(EventRecord).operation, "Enable"),
    )
    yield from _of_handlers()


def _of_handlers() -> Iterator[Scenario]:
    yield _parse(
        ParsePackageManifest("1.2"),
        "package-manifest/host.xml",
        PackageChoice,
        lambda _, reply: _same(reply.last(PackageChoice).version, "1.2.3.4"),
    )
    yield _parse(
        ParseHandlerManifest(),
        "handler-manifest/all.json",
        HandlerManifest,
        lambda _, reply: _same(reply.last(HandlerManifest).enable, "bin/handler.sh enable"),
    )
    yield _parse(
        ParseStatusFile(),
        "status-file/all.json",
        ExtensionStatus,
        lambda _, reply: _same(len(reply.last(ExtensionStatus).substatuses), 2),
    )
    yield _parse(
        ParseHeartbeat(),
        "heartbeat/all.json",
        Heartbeat,
        lambda _, reply: _same(reply.last(Heartbeat).status, "NotReady"),
    )
    yield _parse(
        ParseExtensionPolicy(),
        "extension-policy/all.json",
        ExtensionPolicyFile,
        lambda _, reply: _same(reply.last(ExtensionPolicyFile).listed_only, True),
    )


def _parse(
    request: Message, sample: str, final: type[Message], check: Callable[[Place, Reply], None], phase: Phase = "steady"
) -> Scenario:
    document = (SAMPLES / sample).read_bytes()
    return Scenario(
        "parser", sample.partition("/")[0], request, (final,), check, given=(("memfd", document),), phase=phase
    )


def _same(found: object, expected: object) -> None:
    assert found == expected


def _is_the_plan(_: Place, reply: Reply) -> None:
    assert len(reply.last(ExtensionsGoalState).plugins) == 3
    _is_redacted(reply)


def _are_the_settings(_: Place, reply: Reply) -> None:
    assert reply.last(VmSettings).plugin_version == "1.0.8.177"
    _is_redacted(reply)


def _is_redacted(reply: Reply) -> None:
    copy, settings = reply.contents[-1]
    assert b"Contoso.RunCommand" in copy
    assert SECRET not in copy
    assert SECRET in settings


def _is_the_envelope(_: Place, reply: Reply) -> None:
    assert reply.last(CertificateFile).incarnation == "3"
    assert reply.contents[-1] == (bytes.fromhex("300b06092a864886f70d010703"),)
