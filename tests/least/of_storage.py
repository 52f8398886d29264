# SPDX-License-Identifier: Apache-2.0
"""The jobs of the storage worker: a blob fetched or stored, on machines that keep names and trust elsewhere."""

import sys
from collections.abc import Callable, Iterator
from functools import cache

from ipc.messages import (
    BlobFetched,
    BlobInFile,
    BlobPut,
    BlobStored,
    FetchBlob,
    FetchInto,
    Message,
    StoreBlob,
    TransferFailed,
    Way,
)
from ipc.secret import Secret
from tests.fabric.authority import BUNDLE, IDENTITY, Authority
from tests.fabric.lab import PROJECT
from tests.fabric.surroundings import ACCOUNT, PROXY, STORAGE
from tests.least.of_documents import STRANGE, _is_told
from tests.least.place import Place
from tests.least.scenario import Reply, Scenario, nothing
from tests.least.shapes import with_a_real_lib, with_a_real_lib64, with_a_real_usr_lib64
from tests.storage.account import BLOB, NAME_SERVER, SIXTH, STRANGER, WIRESERVER

FOLDER = "/run/rig/account"
BEGIN = (
    f"[ ! -e {FOLDER}/ready ] || exit 0; "
    f"for each in {STORAGE} {PROXY} {NAME_SERVER}; do ip address replace $each/32 dev lo; done; "
    f"ip -6 address replace {SIXTH}/128 dev lo nodad; mkdir -p {FOLDER}; cd {PROJECT}; "
    f"({sys.executable} -m tests.storage.account {FOLDER} </dev/null >/dev/null 2>&1 &); "
    f"until [ -e {FOLDER}/ready ]; do sleep 0.05; done"
)
WAY = Way(WIRESERVER, "test", 10.0, plain=True)
NAMES = f"127.0.0.1 localhost\n{STORAGE} {ACCOUNT}\n"
DONE = (BlobFetched, BlobInFile, BlobStored, TransferFailed)
PACKAGE = "/run/package"
PUT = BlobPut(Secret(f"https://{ACCOUNT}/put"), (("x-ms-blob-type", "BlockBlob"),), 0, 2)


def scenarios() -> Iterator[Scenario]:
    yield _fetch("a blob", "https", _is_the_blob)
    yield _fetch("a blob by http", "http", _is_the_blob, nothing, "internet")
    yield _fetch("a blob that is not there", "https", _has_failed, nothing, "TransferFailed in steady", path="gone")
    store, given = StoreBlob((PUT,), WAY), (("memfd", b"{}"),)
    yield Scenario("storage", "a status", store, DONE, _is_stored, _here(), given, phase="steady")
    into, file = FetchInto(Secret(f"https://{ACCOUNT}/whole"), WAY, 1 << 20), (("record", PACKAGE),)
    yield Scenario("storage", "a package", into, DONE, _is_in_the_file, _with_a_file(), file, phase="steady")
    yield _fetch("a name that a server knows", "https", _is_the_blob, _looked_up, "/etc/resolv.conf")
    yield _fetch("an address of six", "https", _is_the_blob, _by_six, "inet6")
    for folder in ("/etc/pki", "/var/lib/ca-certificates", "/usr/share/ca-certificates"):
        yield _fetch(f"a machine whose trust is in {folder}", "https", _is_the_blob, _trusting_in(folder), folder)
    yield _fetch("a machine that trusts nobody", "https", _is_not_trusted, _trusting_nobody, "getdents64")
    for shape in (with_a_real_lib, with_a_real_lib64, with_a_real_usr_lib64):
        folder = shape.__name__.removeprefix("with_a_real").replace("_", "/")
        name = f"a machine {shape.__name__.replace('_', ' ')}"
        yield _fetch(name, "https", _is_the_blob, shape, folder, f"{folder} rx, not ro")
    yield Scenario(
        "storage", "a fault, and where it was", STRANGE, (), _is_told, about=frozenset({"no-files"}), phase="steady"
    )


def _fetch(
    name: str,
    scheme: str,
    check: Callable[[Place, Reply], None],
    prepare: Callable[[Place], None] = nothing,
    *about: str,
    path: str = "whole",
) -> Scenario:
    request: Message = FetchBlob(Secret(f"{scheme}://{ACCOUNT}/{path}"), WAY, len(BLOB))
    return Scenario("storage", name, request, DONE, check, _here(prepare), about=frozenset(about), phase="steady")


@cache
def _authority() -> Authority:
    return Authority.make(ACCOUNT)


def _here(more: Callable[[Place], None] = nothing) -> Callable[[Place], None]:
    def prepare(place: Place) -> None:
        place.write("/etc/hosts", NAMES)
        for path, content in _authority().files().items():
            place.write(path, content)
        place.write(STRANGER, _authority().identity)
        place.run("sh", "-ec", BEGIN)
        more(place)

    return prepare


def _looked_up(place: Place) -> None:
    """The account's name is in no file; whoever is asked for it knows it."""
    place.write("/etc/hosts", "127.0.0.1 localhost\n")
    place.write("/etc/resolv.conf", f"nameserver {NAME_SERVER}\noptions timeout:1 attempts:1\n")


def _by_six(place: Place) -> None:
    place.write("/etc/hosts", f"127.0.0.1 localhost\n{SIXTH} {ACCOUNT}\n")


def _trusting_in(folder: str) -> Callable[[Place], None]:
    """The bundle, and nothing else, is there."""

    def prepare(place: Place) -> None:
        bundle = f"{folder}/bundle.pem"
        place.copy(str(BUNDLE), bundle)
        for path in _authority().files():
            if path not in {IDENTITY, str(BUNDLE)}:
                place.remove(path)
        place.link(str(BUNDLE), bundle)

    return prepare


def _trusting_nobody(place: Place) -> None:
    place.remove(*(path for path in _authority().files() if path != IDENTITY))


def _is_not_trusted(_: Place, reply: Reply) -> None:
    assert "CERTIFICATE_VERIFY_FAILED" in reply.last(TransferFailed).problem


def _is_the_blob(_: Place, reply: Reply) -> None:
    assert reply.last(BlobFetched).size == len(BLOB), reply
    assert reply.contents[-1] == (BLOB,)


def _with_a_file() -> Callable[[Place], None]:
    return _here(lambda place: place.write(PACKAGE, "left over"))


def _is_in_the_file(place: Place, reply: Reply) -> None:
    assert reply.last(BlobInFile).size == len(BLOB)
    assert place.at(PACKAGE).read_bytes() == BLOB


def _is_stored(_: Place, reply: Reply) -> None:
    reply.last(BlobStored)


def _has_failed(_: Place, reply: Reply) -> None:
    assert reply.last(TransferFailed).status == 404
