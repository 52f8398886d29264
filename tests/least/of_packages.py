# SPDX-License-Identifier: Apache-2.0
"""The jobs of who unpacks handlers' packages, verifies them, and makes and removes their folders."""

import hashlib
from collections.abc import Callable, Iterator
from functools import cache

import msgspec

from ipc.messages import (
    CarryOver,
    ClearFormerVm,
    CommitFailed,
    Committed,
    Entry,
    Message,
    Openssl,
    PackageRefused,
    PackageUnpacked,
    PackageVerified,
    PlaceHandler,
    RemoveHandler,
    SignatureRefused,
    UnpackPackage,
    VerifyPackage,
)
from tests.fabric.handler_packages import Package
from tests.fabric.package_signing import Signer
from tests.least.of_documents import _is_told
from tests.least.place import Place
from tests.least.scenario import Reply, Scenario, nothing

LIB = "/var/lib/waagent"
PACKAGE, CONTENTS = "/run/package", "/run/contents"
MADE = Package("Vendor.Thing")
# More than what a fork brings has memory for.
MANY = 3000
LARGE = Package("Vendor.Large", files={f"many/{number}": b"x" for number in range(MANY)})
FILES = {"HandlerManifest.json": b"[]", "a/b": b"x"}
OLD = "Vendor.Thing-0.9"
FINAL = (PackageUnpacked, PackageRefused)


def scenarios() -> Iterator[Scenario]:
    yield from _of_unpacker()
    yield from _of_opener()
    yield from _of_handler_files()
    about = frozenset({"no-files"})
    fault = ClearFormerVm("x")
    yield Scenario("unpacker", "a fault, and where it was", fault, (), _is_told, about=about, phase="steady")


def _of_unpacker() -> Iterator[Scenario]:
    given = (("file", PACKAGE), ("record", CONTENTS))
    for name, package, entries in (("a package", MADE, 6), ("a package with many files", LARGE, 7 + MANY)):

        def check(place: Place, reply: Reply, entries: int = entries) -> None:
            told = reply.last(PackageUnpacked)
            assert told.entries == entries
            assert hashlib.sha256(place.at(CONTENTS).read_bytes()).hexdigest() == told.sha256

        order = UnpackPackage(20_000, 1 << 30)
        yield Scenario("unpacker", name, order, FINAL, check, _with(package.zipped), given, phase="steady")
    wrong = _with(lambda: MADE.wrong("climber"))
    yield Scenario("unpacker", "a climber", UnpackPackage(9, 9), FINAL, _is_refused, wrong, given, phase="steady")


def _with(content: Callable[[], bytes]) -> Callable[[Place], None]:
    def prepare(place: Place) -> None:
        place.write(PACKAGE, content())
        place.write(CONTENTS, b"")

    return prepare


def _is_refused(_: Place, reply: Reply) -> None:
    reply.last(PackageRefused)


@cache
def _signer() -> Signer:
    return Signer.make()


def _of_opener() -> Iterator[Scenario]:
    signature, authority = _signer().sign(MADE.zipped()), _signer().authority
    final = (PackageVerified, SignatureRefused)
    for name, content, kind in (
        ("a signed package", MADE.zipped(), PackageVerified),
        ("another", b"", SignatureRefused),
    ):

        def check(_: Place, reply: Reply, kind: type[Message] = kind) -> None:
            reply.last(kind)

        given = (("file", PACKAGE), ("memfd", signature), ("memfd", authority))
        prepare = _with(lambda content=content: content)  # type: ignore[misc]
        order = VerifyPackage(Openssl())
        yield Scenario("opener", name, order, final, check, prepare, given, phase="steady")


def _of_handler_files() -> Iterator[Scenario]:
    content = b"".join(FILES.values())
    order = PlaceHandler(LIB, MADE.folder, len(content), hashlib.sha256(content).hexdigest(), ("config",))
    index = [Entry("HandlerManifest.json", 0, 2), Entry("a", 2, None), Entry("a/b", 2, 1)]
    given = (("memfd", msgspec.msgpack.encode(index)), ("memfd", FILES["HandlerManifest.json"]), ("file", CONTENTS))
    yield _commit("a folder in the place of another one", order, _is_placed, _with_a_former_one(content), given)
    content = bytes(range(256)) * 8192
    large = msgspec.structs.replace(order, size=len(content), sha256=hashlib.sha256(content).hexdigest())
    given = (("memfd", msgspec.msgpack.encode([Entry("large", 0, len(content))])), *given[1:])
    yield _commit("a large file", large, _is_done, _with_a_former_one(content), given)
    yield _commit("what an upgrade takes along", CarryOver(LIB, OLD, MADE.folder), _is_carried, _with_both)
    yield _commit("a folder that goes", RemoveHandler(LIB, OLD), _is_gone, _with_both)
    wrong = msgspec.structs.replace(order, folder=OLD)
    given = (("memfd", bytes(4 << 20)), *given[1:])
    yield Scenario(
        "handler-files", "a large index that is none", wrong, (CommitFailed,), _has_failed,
        _with_a_former_one(content), given, about=frozenset({"memory"}), phase="steady",
    )  # fmt: skip
    yield Scenario(
        "handler-files", "another account's folder in one that goes", RemoveHandler(LIB, OLD), (Committed,), _is_gone,
        _with_theirs, about=frozenset({"dac_override"}), phase="steady",
    )  # fmt: skip
    yield Scenario(
        "handler-files", "what can't be done", CarryOver(LIB, OLD, OLD), (CommitFailed,), _has_failed,
        lambda place: place.folder(LIB), about=frozenset({"CommitFailed in steady"}), phase="steady",
    )  # fmt: skip


def _commit(
    name: str,
    order: Message,
    check: Callable[[Place, Reply], None],
    prepare: Callable[[Place], None] = nothing,
    given: tuple[tuple[str, bytes | str], ...] = (),
) -> Scenario:
    return Scenario("handler-files", name, order, (Committed,), check, prepare, given, phase="steady")


def _with_a_former_one(content: bytes) -> Callable[[Place], None]:
    def prepare(place: Place) -> None:
        place.folder(LIB)
        place.write(f"{LIB}/{MADE.folder}/config/HandlerState", b"Enabled")
        place.write(CONTENTS, content)

    return prepare


def _is_placed(place: Place, reply: Reply) -> None:
    reply.last(Committed)
    folder = place.at(f"{LIB}/{MADE.folder}")
    assert {path: (folder / path).read_bytes() for path in FILES} == FILES
    assert (folder / "a/b").stat().st_mode & 0o777 == 0o744
    assert (folder / "config/HandlerState").read_bytes() == b"Enabled"


def _is_done(_: Place, reply: Reply) -> None:
    reply.last(Committed)


def _with_both(place: Place) -> None:
    place.folder(LIB)
    place.write(f"{LIB}/{OLD}/mrseq", b"7")
    place.write(f"{LIB}/{OLD}/status/7.status", b"[]")
    place.folder(f"{LIB}/{MADE.folder}/status")


def _with_theirs(place: Place) -> None:
    _with_both(place)
    place.folder(f"{LIB}/{OLD}/theirs", 0o700, 9999, 9999)
    place.folder(f"{LIB}/{OLD}/theirs/closed", 0, 9999, 9999)


def _is_carried(place: Place, reply: Reply) -> None:
    reply.last(Committed)
    assert place.at(f"{LIB}/{MADE.folder}/mrseq").read_bytes() == b"7"
    assert place.at(f"{LIB}/{MADE.folder}/status/7.status").read_bytes() == b"[]"


def _is_gone(place: Place, reply: Reply) -> None:
    assert reply.last(Committed).fact == "removed"
    assert not place.at(f"{LIB}/{OLD}").exists()


def _has_failed(_: Place, reply: Reply) -> None:
    reply.last(CommitFailed)
