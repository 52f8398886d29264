# SPDX-License-Identifier: Apache-2.0
"""The worker as the supervisor sees it: a request with a descriptor goes in, one typed answer comes out."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipc.channel import PacketChannel
from ipc.descriptors import close_all, read_sealed, sealed_memfd
from ipc.messages import (
    ArtifactsProfile,
    CertificateFile,
    EventRecord,
    ExtensionEvents,
    ExtensionPolicyFile,
    ExtensionsGoalState,
    ExtensionStatus,
    GoalState,
    HandlerManifest,
    Heartbeat,
    HostingEnvironment,
    InputRefused,
    InstanceMetadata,
    Message,
    Ovf,
    PackageChoice,
    ParseArtifactsProfile,
    ParseCertificateFile,
    ParseEventFile,
    ParseEventRecord,
    ParseExtensionPolicy,
    ParseExtensionsConfig,
    ParseGoalState,
    ParseHandlerManifest,
    ParseHeartbeat,
    ParseHostingEnvironment,
    ParseInstanceMetadata,
    ParseMedium,
    ParsePackageManifest,
    ParsePluginVersions,
    ParseRemoteAccess,
    ParseStatusFile,
    ParseVersions,
    ParseVmSettings,
    PluginVersions,
    RemoteAccess,
    Versions,
    VmSettings,
    WorkerReady,
)
from supervisor.spawner.service import CARRIED
from tests.fabric.media import make_medium, make_ovf
from workers.parser.main import LATER

ROOT = Path(__file__).resolve().parents[3]
PASSWORD = "Tr0ub4dor"
MARK = b"***REDACTED***"
OVF = make_ovf(password=PASSWORD, custom_data=b"hello")
WORKER = """
import socket, sys
sys.path.insert(0, sys.argv[1])
from ipc.channel import PacketChannel
from importlib import import_module
from supervisor.spawner.carried import Carried, carry
from supervisor.spawner.service import CARRIED, COMMON_IMPORTS
from workers.parser.main import main
opened = []
def look(event, arguments):
    if event == "open" or event == "import" and arguments[0] not in CARRIED:
        opened.append(arguments[0])
def lock():
    for name in COMMON_IMPORTS:
        import_module(name)
    if {"workers.parser.blocks", "workers.parser.ovf", "workers.parser.xml"} & set(sys.modules):
        raise SystemExit("a reader is loaded before there is a document")
    sys.meta_path.insert(0, Carried(carry(CARRIED)))
    sys.addaudithook(look)
main(PacketChannel(socket.socket(fileno=int(sys.argv[2]))), lock)
if opened:
    raise SystemExit(f"opened or imported once locked: {opened}")
"""


class Worker:
    """A parser process and the supervisor's end of its channel."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        arguments = [sys.executable, "-I", "-c", WORKER, str(ROOT), str(theirs.fileno())]
        self.process = subprocess.Popen(arguments, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE, env={})
        theirs.close()
        self.channel = PacketChannel(ours)
        assert self.channel.receive(30)[0] == WorkerReady()

    def ask(self, request: Message, content: bytes) -> tuple[Message, list[bytes]]:
        descriptor = sealed_memfd("input", content)
        try:
            self.channel.send(request, (descriptor,))
        finally:
            os.close(descriptor)
        message, descriptors = self.channel.receive(30)
        attached = [read_sealed(number, 1 << 21) for number in descriptors]
        close_all(descriptors)
        return message, attached

    def end(self) -> tuple[int, bytes]:
        _, errors = self.process.communicate(timeout=30)
        return self.process.returncode, errors


@pytest.fixture
def worker() -> Iterator[Worker]:
    started = Worker()
    yield started
    started.channel.close()
    if started.process.poll() is None:
        started.process.kill()
    started.process.communicate()


@pytest.mark.parametrize(
    ("form", "reader"), [("udf", "udf"), ("bridge", "udf"), ("wiped", "udf"), ("bridge", "iso"), ("iso", "iso")]
)
def test_a_medium_becomes_an_ovf_and_nothing_is_opened_after_the_lock(worker: Worker, form: str, reader: str) -> None:
    image = make_medium(OVF, form)
    message, attached = worker.ask(ParseMedium(reader, len(image)), image)
    assert isinstance(message, Ovf)
    assert message.password is not None
    assert message.password.reveal() == PASSWORD
    assert attached == [b"aGVsbG8=", OVF.replace(PASSWORD.encode(), b"*")]
    assert worker.end() == (0, b"")


@pytest.mark.parametrize("reader", ["udf", "iso"])
@pytest.mark.parametrize(
    "document",
    [OVF[:-20], OVF.replace(b"HostName", b"HostNome"), b"\xff" + OVF, OVF.replace(b"<Environment", b"<!DOCTYPE a><E")],
    ids=["cut off", "without host name", "not UTF-8", "with a document type"],
)
def test_a_refusal_names_the_place_and_never_the_password(worker: Worker, reader: str, document: bytes) -> None:
    image = make_medium(document, reader)
    message, attached = worker.ask(ParseMedium(reader, len(image)), image)
    assert isinstance(message, InputRefused)
    assert message.where
    assert attached == []
    _, errors = worker.end()
    assert PASSWORD not in f"{message}"
    assert PASSWORD.encode() not in errors


def test_a_medium_without_size_is_refused(worker: Worker) -> None:
    assert worker.ask(ParseMedium("udf", 0), b"")[0] == InputRefused("medium", "is empty")


def test_documents_of_the_wireserver_are_parsed(worker: Worker) -> None:
    message, _ = worker.ask(ParseGoalState(), b"<GoalState><Incarnation>7</Incarnation></GoalState>")
    assert message == GoalState("7", "", "", None)
    assert worker.end() == (0, b"")


def test_versions_are_parsed(worker: Worker) -> None:
    message, _ = worker.ask(ParseVersions(), b"<Versions><Preferred><Version>1</Version></Preferred></Versions>")
    assert message == Versions("1", ())
    assert worker.end() == (0, b"")


@pytest.mark.parametrize(
    ("request_", "sample", "answer", "attached"),
    [
        (ParseExtensionsConfig(), "extensions-config/all.xml", ExtensionsGoalState, MARK),
        (ParseVmSettings(), "vm-settings/all.json", VmSettings, MARK),
        (ParseCertificateFile(), "certificate-file/host.xml", CertificateFile, b"\x30\x0b\x06"),
        (ParseHostingEnvironment(), "hosting-environment/host.xml", HostingEnvironment, None),
        (ParseRemoteAccess(), "remote-access/host.xml", RemoteAccess, None),
        (ParseArtifactsProfile(), "artifacts-profile/host.json", ArtifactsProfile, None),
        (ParseInstanceMetadata(), "instance-metadata/instance.json", InstanceMetadata, None),
        (ParsePluginVersions(), "plugin-versions/host.json", PluginVersions, None),
        (ParseEventFile(1), "event-file/list.json", ExtensionEvents, None),
        (ParseEventRecord(), "event-record/json.tld", EventRecord, None),
        (ParsePackageManifest("1.2"), "package-manifest/host.xml", PackageChoice, None),
        (ParseHandlerManifest(), "handler-manifest/all.json", HandlerManifest, None),
        (ParseStatusFile(), "status-file/all.json", ExtensionStatus, None),
        (ParseHeartbeat(), "heartbeat/all.json", Heartbeat, None),
        (ParseExtensionPolicy(), "extension-policy/all.json", ExtensionPolicyFile, None),
    ],
    ids=lambda it: type(it).__name__ if isinstance(it, Message) else "",
)
def test_every_document_of_the_host_has_its_answer(
    worker: Worker, request_: Message, sample: str, answer: type[Message], attached: bytes | None
) -> None:
    message, contents = worker.ask(request_, (ROOT / "tests/data" / sample).read_bytes())
    assert isinstance(message, answer)
    assert len(contents) == (0 if attached is None else 2 if attached == MARK else 1)
    assert all(attached in content and PASSWORD.encode() not in content for content in contents[:1] if attached)
    assert all(b"handlerSettings" in content and PASSWORD.encode() in content for content in contents[1:])
    assert worker.end() == (0, b"")


def test_the_spawner_carries_every_reader() -> None:
    assert set(LATER) <= set(CARRIED)
