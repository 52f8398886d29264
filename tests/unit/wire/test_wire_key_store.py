# SPDX-License-Identifier: Apache-2.0
"""The secure channel's key on disk: whole, root's alone, this VM's, and never in what is said about it."""

import stat
from pathlib import Path

import pytest

from ipc.errors import StateError
from ipc.messages import ChannelKey
from ipc.secret import Secret
from supervisor.vm_identity import VmId
from supervisor.wire.key_store import GUID_FILE, KEY_FILES, MOST_KEYS, KeyStore

pytestmark = pytest.mark.root
HERE, ELSEWHERE = VmId("2F8A7C41-5B6D-4E90-9A3B-7C1D2E4F6A80"), VmId("00000000-5B6D-4E90-9A3B-7C1D2E4F6A80")
KEY_FILE = KEY_FILES[0]
GUID = "b1946ac9-2492-4d23-a5ad-6f2e7a1f8c10"
HEX = "0a" * 31 + "F1"
KEY = ChannelKey(GUID, Secret(HEX), "2026-11-23T08:11:07Z", 3)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "credentials"


def kept(folder: Path, vm: VmId = HERE) -> KeyStore:
    store = KeyStore(str(folder), vm)
    store.save(KEY)
    store.note_confirmed(GUID)
    return store


def numbered(number: int) -> ChannelKey:
    return ChannelKey(f"{number:08x}{GUID[8:]}", Secret(f"{number:064x}"), "2026-11-23T08:11:08Z")


def test_an_empty_store_has_nothing(folder: Path) -> None:
    found = KeyStore(str(folder), HERE).load()
    assert (found.key, found.confirmed) == (None, False)


def test_what_is_saved_is_found(folder: Path) -> None:
    found = kept(folder).load()
    assert found.key is not None
    assert (found.key.guid, found.key.secret.reveal(), found.confirmed, found.problem) == (GUID, HEX, True, "")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {
        KEY_FILE: 0o600,
        GUID_FILE: 0o600,
    }


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"vm": "x", "guid": 3}',
        f'{{"vm": "x", "guid": "{GUID}", "key": "{HEX[:60]}"}}'.encode(),
        f'{{"vm": "x", "guid": "{GUID}", "key": "{HEX}"'.encode(),
        # Never to stand in a request's line.
        f'{{"vm": "x", "guid": "{GUID[:-1]} HTTP/1.1", "key": "{HEX}"}}'.encode(),
        f'{{"vm": "x", "guid": "{GUID}\\n", "key": "{HEX}"}}'.encode(),
    ],
)
def test_a_damaged_key_is_told_from_none_and_not_shown(folder: Path, content: bytes) -> None:
    store = kept(folder)
    (folder / KEY_FILE).write_bytes(content)
    found = store.load(GUID)
    assert (found.key, found.confirmed) == (None, True)
    assert str(folder / KEY_FILE) in found.problem
    # Somebody may mend it: nothing is written over it.
    store.save(numbered(2))
    assert (folder / KEY_FILE).read_bytes() == content
    assert store.load(numbered(2).guid).key is not None
    assert HEX[:10] not in found.problem


def test_a_key_that_is_gone_is_remembered(folder: Path) -> None:
    store = kept(folder)
    (folder / KEY_FILE).unlink()
    found = store.load(GUID)
    assert (found.key, found.confirmed, found.problem) == (None, True, f"no key file in {folder} has it")


def test_a_key_that_others_could_read_is_used_and_told(folder: Path) -> None:
    store = kept(folder)
    (folder / KEY_FILE).chmod(0o644)
    found = store.load()
    assert found.key is not None
    assert found.problem.endswith("has mode 0644: others could read it")


def test_a_link_is_not_followed(folder: Path, tmp_path: Path) -> None:
    store = kept(folder)
    (folder / KEY_FILE).rename(tmp_path / "elsewhere")
    (folder / KEY_FILE).symlink_to(tmp_path / "elsewhere")
    assert store.load().key is None


def test_a_confirmed_key_stays_whatever_is_made_after_it(folder: Path) -> None:
    """The host may be another one than it says: whichever key the true one names later is found."""
    store = kept(folder)
    for number in range(2, 5 * MOST_KEYS):
        store.save(numbered(number))
        last = store.load()
        assert last.key is not None
        assert (last.key.guid, last.confirmed) == (numbered(number).guid, False)
        first = store.load(GUID.upper())
        assert first.key is not None
        assert (first.key.secret.reveal(), first.confirmed) == (HEX, True)
    # Of the others the last ones are left.
    assert sorted(path.name for path in folder.iterdir()) == sorted((*KEY_FILES, GUID_FILE))
    left = [number for number in range(2, 5 * MOST_KEYS) if store.load(numbered(number).guid).key is not None]
    assert left == list(range(5 * MOST_KEYS - MOST_KEYS + 1, 5 * MOST_KEYS))
    confirmed = store.confirmed()
    assert confirmed is not None
    assert confirmed.guid == GUID


def test_where_all_are_confirmed_no_other_is_kept(folder: Path) -> None:
    store = kept(folder)
    for number in range(2, MOST_KEYS + 1):
        store.save(numbered(number))
        store.note_confirmed(numbered(number).guid)
    with pytest.raises(StateError, match=f"has {MOST_KEYS} keys that the host has confirmed"):
        store.save(numbered(100))
    assert all(store.load(numbered(number).guid).confirmed for number in range(2, MOST_KEYS + 1))


def test_no_other_key_comes_under_a_guid_that_is_kept(folder: Path) -> None:
    store = kept(folder)
    store.save(KEY)
    with pytest.raises(StateError, match="another key under the GUID"):
        store.save(ChannelKey(GUID.upper(), Secret("b" * 64), "2026-11-23T08:11:08Z"))
    found = store.load(GUID)
    assert found.key is not None
    assert found.key.secret.reveal() == HEX


def test_where_it_cannot_be_read_who_is_confirmed_everyone_is_spared(folder: Path) -> None:
    store = kept(folder)
    (folder / GUID_FILE).write_bytes(b"{")
    for number in range(2, MOST_KEYS + 1):
        store.save(numbered(number))
    with pytest.raises(StateError):
        store.save(numbered(100))
    assert not store.load(GUID).confirmed
    store.note_confirmed(GUID)
    assert store.load(GUID).confirmed
    with pytest.raises(StateError):
        store.save(numbered(100))


def test_another_vms_key_goes_with_the_next_look(folder: Path) -> None:
    kept(folder, ELSEWHERE)
    assert KeyStore(str(folder), HERE).load().key is None
    assert list(folder.iterdir()) == []


def test_a_vm_that_does_not_know_its_id_keeps_what_there_is(folder: Path) -> None:
    kept(folder)
    assert KeyStore(str(folder), VmId("", "unreadable", "boot")).load().key is not None
    kept(folder, VmId("", "unreadable", "boot"))
    assert KeyStore(str(folder), HERE).load().key is not None


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError):
        kept(tmp_path / "file" / "credentials")
