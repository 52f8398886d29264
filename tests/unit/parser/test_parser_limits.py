# SPDX-License-Identifier: Apache-2.0
"""The worker in this process: what is too long is refused before it is read, and the worst fits into its memory."""

import fcntl
import os
import resource
import socket
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from ipc.channel import PacketChannel
from ipc.descriptors import SEALS, close_all, sealed_memfd
from ipc.messages import (
    GoalState,
    InputRefused,
    Message,
    Ovf,
    ParseCertificateFile,
    ParseEventFile,
    ParseExtensionsConfig,
    ParseGoalState,
    ParseHandlerManifest,
    ParseMedium,
    ParseOvf,
    ParseStatusFile,
    ParseVersions,
    ParseVmSettings,
    Versions,
    WorkerReady,
)
from tests.fabric.media import make_iso, make_ovf
from tests.fabric.udf_writer import make_udf
from tests.fuzz.worker import MEMORY_BYTES
from workers.parser import bounds
from workers.parser.main import main

ROOT = Path(__file__).resolve().parents[3]
OVF = make_ovf(password="Tr0ub4dor")
MIB = 1024 * 1024


def serve(request: Message, *descriptors: int) -> Message:
    """What the worker's main answers to one request; takes the descriptors."""
    ours, theirs = (PacketChannel(end) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    try:
        ours.send(request, descriptors)
        close_all(descriptors)
        main(theirs, lambda: None)
        assert ours.receive(10)[0] == WorkerReady()
        answer, attached = ours.receive(10)
        close_all(attached)
        return answer
    finally:
        ours.close()


def hollow(size: int) -> int:
    """A sealed file of zeros that takes no memory."""
    descriptor = os.memfd_create("hollow", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, SEALS)
    return descriptor


def test_each_request_has_its_answer() -> None:
    assert isinstance(serve(ParseOvf(), sealed_memfd("d", OVF)), Ovf)
    for reader, image in (("udf", make_udf(OVF)), ("iso", make_iso(OVF))):
        assert isinstance(serve(ParseMedium(reader, len(image)), sealed_memfd("m", image)), Ovf)
    goal_state = b"<GoalState><Incarnation>1</Incarnation></GoalState>"
    assert isinstance(serve(ParseGoalState(), sealed_memfd("d", goal_state)), GoalState)
    assert isinstance(serve(ParseVersions(), sealed_memfd("d", b"<Versions/>")), Versions)
    refused = serve(ParseMedium("udf", len(bad := make_udf(b"<a/>"))), sealed_memfd("m", bad))
    assert refused == InputRefused("ovf-env.xml, Environment", "is not the document's root element")


MOST = {
    ParseOvf: bounds.MAX_DOCUMENT_BYTES,
    ParseGoalState: bounds.MAX_DOCUMENT_BYTES,
    ParseVersions: bounds.MAX_DOCUMENT_BYTES,
    ParseCertificateFile: bounds.MAX_DOCUMENT_BYTES,
    ParseVmSettings: bounds.MAX_EXTENSIONS_BYTES,
    ParseExtensionsConfig: bounds.MAX_EXTENSIONS_BYTES,
    ParseEventFile: bounds.MAX_EVENTS_BYTES,
    ParseHandlerManifest: bounds.MAX_DOCUMENT_BYTES,
    ParseStatusFile: bounds.MAX_DOCUMENT_BYTES,
}


@pytest.mark.parametrize("kind", MOST)
@pytest.mark.parametrize("size", [0, 8 * MIB, 100 * MIB, 1 << 40])
def test_a_document_that_is_too_long_is_refused_before_a_byte_is_read(kind: type[Message], size: int) -> None:
    size = size or MOST[kind] + 1
    tracemalloc.start()
    try:
        answer = serve(kind(), hollow(size))
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()
    allowed = f"more than the {MOST[kind]} allowed"
    assert answer == InputRefused("document", f"is {size} bytes long, {allowed}")


@pytest.mark.parametrize("reader", ["udf", "iso"])
def test_a_medium_of_a_terabyte_of_zeros_is_refused_for_what_it_lacks(reader: str) -> None:
    answer = serve(ParseMedium(reader, 1 << 40), hollow(1 << 40))
    assert isinstance(answer, InputRefused)
    assert answer.where in ("UDF anchor", "ISO9660 volume descriptor, sector 16")


@pytest.mark.parametrize("count", [0, 2])
def test_a_request_without_its_one_descriptor_ends_the_worker(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="70"):
        serve(ParseGoalState(), *(sealed_memfd("d", b"<a/>") for _ in range(count)))
    assert f"{count} descriptors came instead of one" in capsys.readouterr().err


WORST = """
import sys
sys.path.insert(0, sys.argv[1])
from ipc.errors import InputError
from tests.fuzz.worker import confine, peak_kib
from workers.parser import bounds, goal_state, ovf, versions, xml
most = bounds.MAX_DOCUMENT_BYTES
head = b'<Environment xmlns="http://schemas.dmtf.org/ovf/environment/1">'
wide = b"<a " + b" ".join(b"x%d='%s'" % (n, b"y" * 60) for n in range(60)) + b"/>"
def document(kind):
    body = {"text": b"x" * most, "elements": b"<a>b</a>" * 8000, "attributes": wide * 300, "runs": b"x<!---->" * most,
            "entities": b"&#228;" * most, "names": b"".join(b"<n%d%s/>" % (n, b"z" * 900) for n in range(1100))}[kind]
    body = body[: (most - 200) // 2 if kind == "utf-16" else most - 200]
    return head + body[: body.rfind(b">") + 1] + b"</Environment>" if kind not in ("text", "entities") else (
        head + body[: len(body) // 6 * 6] + b"</Environment>")
given = document(sys.argv[2])
if sys.argv[3] == "utf-16":
    given = given[: most // 2 - 200].decode().encode("utf-16")
confine()
for parse in (ovf.parse, goal_state.parse, versions.parse):
    try:
        parse(given)
    except InputError as refused:
        assert "MemoryError" not in str(refused)
print(len(given), peak_kib())
"""


@pytest.mark.parametrize("kind", ["text", "elements", "attributes", "runs", "entities", "names"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_the_worst_documents_of_full_length_fit(kind: str, encoding: str) -> None:
    command = [sys.executable, "-I", "-c", WORST, str(ROOT), kind, encoding]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"LC_ALL": "C.UTF-8"})
    assert done.returncode == 0, done.stderr
    size, peak_kib = map(int, done.stdout.split())
    assert size > 40_000
    assert peak_kib < MEMORY_BYTES // 1024
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != MEMORY_BYTES  # the limit was the child's own
