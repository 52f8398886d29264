# SPDX-License-Identifier: Apache-2.0
"""The VM's certificates on disk: exactly what was opened and what is named, root's alone, whole whatever happens."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from ipc.codec import decode, encode
from ipc.descriptors import close_all, read_sealed, sealed_memfd
from ipc.errors import BadDescriptor, MalformedMessage, StateError
from ipc.messages import CertificatesOpened, OpenedCertificate
from supervisor.certificate_store import CertificateStore

pytestmark = pytest.mark.root

ONE, OTHER, THIRD = "1" * 40, "2" * 40, "3" * 40
CERTIFICATES, KEYS = b"first certificate|second certificate|", b"first key|"


def row(name: str, certificate: tuple[int, int] = (0, 18), key: tuple[int, int] | None = None) -> OpenedCertificate:
    return OpenedCertificate(name, f"CN={name[:1]}", 2_000_000_000, "RSA 2048", "ssh-rsa AAAA", certificate, key)


FIRST, SECOND = row(ONE, key=(0, 10)), row(OTHER, (18, 19))


@pytest.fixture
def files() -> Iterator[tuple[int, int]]:
    given = sealed_memfd("certificates", CERTIFICATES), sealed_memfd("keys", KEYS)
    yield given
    close_all(given)


def opened(*rows: OpenedCertificate) -> CertificatesOpened:
    return CertificatesOpened(rows, ())


def there(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.name != "list.json"}


def test_what_was_opened_is_there_for_root_alone_and_for_the_next_life(tmp_path: Path, files: tuple[int, int]) -> None:
    folder = tmp_path / "certificates"
    store = CertificateStore(str(folder))
    assert store.known == {}
    store.take(opened(FIRST, SECOND), files, ())
    assert there(folder) == {
        f"{ONE}.crt": b"first certificate|",
        f"{ONE}.key": b"first key|",
        f"{OTHER}.crt": b"second certificate|",
    }
    assert {stat.S_IMODE(each.stat().st_mode) for each in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert CertificateStore(str(folder)).known == store.known
    assert [each.has_private_key for each in store.known.values()] == [True, False]
    key = store.private_key(ONE)
    assert read_sealed(key, 100) == b"first key|"
    os.close(key)
    for name in (OTHER, THIRD):
        with pytest.raises(LookupError, match=f"no private key of certificate {name}"):
            store.private_key(name)


def test_what_is_gone_goes_unless_it_is_named(tmp_path: Path, files: tuple[int, int]) -> None:
    store = CertificateStore(str(tmp_path))
    store.take(opened(FIRST, SECOND), files, ())
    store.take(opened(row(THIRD)), files, {ONE})
    assert set(store.known) == {ONE, THIRD}
    assert set(there(tmp_path)) == {f"{ONE}.crt", f"{ONE}.key", f"{THIRD}.crt"}
    store.take(opened(row(ONE)), files, {ONE})
    assert store.known[ONE].has_private_key
    store.take(opened(row(ONE)), files, ())
    assert (store.known[ONE].has_private_key, set(there(tmp_path))) == (False, {f"{ONE}.crt"})
    store.clear()
    assert (store.known, list(tmp_path.iterdir())) == ({}, [])


def test_a_key_that_comes_later_is_taken(tmp_path: Path, files: tuple[int, int]) -> None:
    store = CertificateStore(str(tmp_path))
    store.take(opened(row(ONE)), files, ())
    store.take(opened(FIRST), files, ())
    assert there(tmp_path)[f"{ONE}.key"] == b"first key|"
    assert CertificateStore(str(tmp_path)).known[ONE].has_private_key


def test_what_can_not_be_written_leaves_what_was_there(tmp_path: Path, files: tuple[int, int]) -> None:
    store = CertificateStore(str(tmp_path))
    store.take(opened(FIRST), files, ())
    with pytest.raises(StateError, match="its source is shorter than was said"):
        store.take(opened(row(OTHER, (30, 19))), files, ())
    assert set(store.known) == set(CertificateStore(str(tmp_path)).known) == {ONE}
    assert there(tmp_path)[f"{ONE}.key"] == b"first key|"
    store.take(opened(SECOND), files, ())
    assert set(there(tmp_path)) == {f"{OTHER}.crt"}


@pytest.mark.parametrize("wrong", ["missing", "empty", "others may read it", "a link"])
def test_what_is_listed_counts_only_with_its_files_as_they_were(
    wrong: str, tmp_path: Path, files: tuple[int, int]
) -> None:
    CertificateStore(str(tmp_path)).take(opened(FIRST, SECOND), files, ())
    key = tmp_path / f"{ONE}.key"
    if wrong == "others may read it":
        key.chmod(0o640)
    elif wrong == "empty":
        key.write_bytes(b"")
    else:
        key.unlink()
    if wrong == "a link":
        key.symlink_to(tmp_path / f"{OTHER}.crt")
    store = CertificateStore(str(tmp_path))
    assert set(store.known) == {OTHER}
    store.take(opened(FIRST, SECOND), files, ())
    assert (there(tmp_path)[f"{ONE}.key"], key.is_symlink()) == (b"first key|", False)


@pytest.mark.parametrize("named", [(), (ONE,)])
def test_what_a_false_opener_has_written_goes_with_the_next_answer(
    named: tuple[str, ...], tmp_path: Path, files: tuple[int, int]
) -> None:
    """A certificate or key of its own under a true thumbprint, as long as the right one and longer."""
    right = {f"{ONE}.crt": b"first certificate|", f"{ONE}.key": b"first key|"}
    planted = sealed_memfd("certificates", b"planted.|planted certificate|"), sealed_memfd("keys", b"false key|")
    try:
        for false in (row(ONE, (9, 18), (0, 10)), row(ONE, (0, 29), (0, 9))):
            store = CertificateStore(str(tmp_path))
            store.take(opened(replace(false, subject="CN=planted")), planted, named)
            assert {name: b"planted" in held or b"false" in held for name, held in there(tmp_path).items()} == (
                dict.fromkeys(right, True)
            )
            store.take(opened(FIRST), files, named)
            assert there(tmp_path) == right
            assert [each.subject for each in CertificateStore(str(tmp_path)).known.values()] == [FIRST.subject]
    finally:
        close_all(planted)


def test_a_certificate_that_is_the_same_is_not_written_again(tmp_path: Path, files: tuple[int, int]) -> None:
    store = CertificateStore(str(tmp_path))
    store.take(opened(FIRST), files, ())
    before = (tmp_path / f"{ONE}.crt").stat().st_ino
    store.take(opened(FIRST), files, ())
    assert (tmp_path / f"{ONE}.crt").stat().st_ino == before


@pytest.mark.parametrize("name", ["../../etc/shadow", "a" * 40, ONE + "\n", ONE[1:], ""])
def test_what_is_no_thumbprint_names_no_file(name: str, tmp_path: Path, files: tuple[int, int]) -> None:
    """Neither in a message nor, had one come by, on disk."""
    store = CertificateStore(str(tmp_path / "certificates"))
    with pytest.raises(StateError, match="is no thumbprint"):
        store.take(opened(row(name, key=(0, 10))), files, ())
    assert (there(tmp_path / "certificates"), store.known) == ({}, {})
    with pytest.raises(MalformedMessage):
        decode(encode(opened(row(name)), 0, 0))


@pytest.mark.parametrize("text", ["", "{", '[{"thumbprint": "x"}]', '[{"thumbprint": "../../../etc/shadow"}]'])
def test_a_list_that_is_none_is_as_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text(text)
    assert CertificateStore(str(tmp_path)).known == {}


def test_a_key_too_large_to_be_one_is_not_handed_out(tmp_path: Path, files: tuple[int, int]) -> None:
    store = CertificateStore(str(tmp_path))
    store.take(opened(FIRST), files, ())
    (tmp_path / f"{ONE}.key").write_bytes(bytes(65537))
    with pytest.raises(StateError, match="65537 bytes, where 1 to 65536 were expected"):
        store.private_key(ONE)


def test_what_is_handed_out_can_not_be_changed(tmp_path: Path, files: tuple[int, int]) -> None:
    store = CertificateStore(str(tmp_path))
    store.take(opened(FIRST), files, ())
    key = store.private_key(ONE)
    with pytest.raises(OSError, match="Operation not permitted"):
        os.pwrite(key, b"x", 0)
    with pytest.raises(BadDescriptor):
        read_sealed(key, 5)
    os.close(key)
