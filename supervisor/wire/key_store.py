# SPDX-License-Identifier: Apache-2.0
"""Owns the secure channel's keys on disk: root's alone, complete before they are attested, never without their VM's id.

Runs in the supervisor, the only process that reads them. A key that the host has confirmed can't be had again: nothing
here writes over one, nor removes one but another VM's.
"""

import os
import stat
from typing import NamedTuple

import msgspec

from ipc.errors import StateError
from ipc.messages import ChannelKey
from ipc.secret import Secret
from supervisor.files import make_folder, read_text, remove, write_whole
from supervisor.vm_identity import VmId, is_another
from supervisor.wire.signing import SigningKey

# One key a file. More come only where a host makes keys and forgets them, or somebody in the network says so.
MOST_KEYS = 8
KEY_FILES = ("secure-channel.key", *(f"secure-channel.{number}.key" for number in range(2, MOST_KEYS + 1)))
# The GUIDs of those that the host has confirmed, the last one last. It outlives a key's file.
GUID_FILE = "secure-channel.guid"
MOST_GUIDS = 4 * MOST_KEYS
PRIVATE = 0o600


class Found(NamedTuple):
    """What is in the store: the key that was looked for, whether the host has confirmed it (known of a lost one, too),
    and what is wrong with it, for people."""

    key: SigningKey | None
    confirmed: bool
    problem: str = ""


class _Written(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key's file. Of two keys the one with the higher `number` was made later."""

    vm: str
    guid: str
    key: str
    number: int = 0
    issued: str = ""
    incarnation: int | None = None


class _Marker(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    vm: str
    guids: tuple[str, ...]


class _Kept(NamedTuple):
    """One file: its content and the key in it, None where they can't be read; and what is wrong."""

    name: str
    written: _Written | None = None
    key: SigningKey | None = None
    problem: str = ""


class KeyStore:
    """The files in `folder`, for the VM `vm_id`."""

    def __init__(self, folder: str, vm_id: VmId) -> None:
        self._folder = folder
        self._vm_id = vm_id

    def load(self, guid: str = "") -> Found:
        """The key `guid`, or the last that was made. What another VM left is removed: this one's disk was made from
        its. StateError when that fails."""
        keys, marker = self._keys(), self._marker()
        vms = [kept.written.vm for kept in keys if kept.written] + [marker.vm if marker else ""]
        if any(vms) and all(is_another(vm, self._vm_id) for vm in filter(None, vms)):
            for name in (*KEY_FILES, GUID_FILE):
                remove(f"{self._folder}/{name}")
            return Found(None, confirmed=False)
        ours = [kept for kept in keys if self._is_ours(kept, guid)]
        if ours:
            last = max(ours, key=_number)
            return Found(last.key, marker is not None and _is_in(last, marker), last.problem)
        problem = "; ".join(kept.problem for kept in keys if kept.problem) or f"no key file in {self._folder} has it"
        return Found(None, marker is not None and any(same(guid, known) for known in marker.guids), problem)

    def confirmed(self) -> SigningKey | None:
        """The key that the host has confirmed last, of those that are there."""
        marker = self._marker()
        if marker is None:
            return self.load().key
        for guid in reversed(marker.guids):
            if (found := self.load(guid)).key is not None:
                return found.key
        return None

    def save(self, key: ChannelKey) -> None:
        """Keep `key`, on disk before this returns; where there is no room, in the place of the oldest that the host has
        not confirmed. StateError when it can't be, or is a kept key's GUID with another key."""
        make_folder(self._folder, 0o700)
        keys, marker = self._keys(), self._marker()
        for kept in keys:
            if kept.key and self._is_ours(kept, key.guid):
                if kept.key.secret.reveal().lower() == key.key.reveal().lower():
                    return
                raise StateError(f"the host has made another key under the GUID {key.guid} of one that is kept")
        name = self._room(keys, marker)
        number = 1 + max((kept.written.number for kept in keys if kept.written), default=0)
        whole = _Written(self._vm_id.name, key.guid, key.key.reveal(), number, key.issued, key.incarnation)
        write_whole(f"{self._folder}/{name}", _encoded(whole), PRIVATE)

    def note_confirmed(self, guid: str) -> None:
        """The host knows the key `guid`: it took its attestation, or named it. StateError when that can't be written
        down."""
        make_folder(self._folder, 0o700)
        keys, marker = self._keys(), self._marker()
        there = {kept.key.guid.lower() for kept in keys if kept.key and self._is_ours(kept) and _is_in(kept, marker)}
        before = [known.lower() for known in marker.guids] if marker else sorted(there)
        known = [each for each in before if each != guid.lower()]
        # Where there are too many, those go whose keys are gone.
        gone = [each for each in known if each not in there]
        dropped = set(gone[: max(0, len(known) + 1 - MOST_GUIDS)])
        guids = (*(each for each in known if each not in dropped), guid.lower())
        write_whole(f"{self._folder}/{GUID_FILE}", _encoded(_Marker(self._vm_id.name, guids)), PRIVATE)

    def _room(self, keys: list[_Kept], marker: _Marker | None) -> str:
        """The file for a new key. What can't be read may be a confirmed one, and is left for somebody to mend."""
        taken = {kept.name for kept in keys if not kept.written or self._is_ours(kept)}
        free = next((name for name in KEY_FILES if name not in taken), None)
        if free is not None:
            return free
        loose = [kept for kept in keys if kept.key and not _is_in(kept, marker)]
        if not loose:
            raise StateError(
                f"{self._folder} has {MOST_KEYS} keys that the host has confirmed, or that can't be read, and gives "
                "none of them up for another: remove those that it will never name again"
            )
        return min(loose, key=_number).name

    def _is_ours(self, kept: _Kept, guid: str = "") -> bool:
        """Whether it is a key of this VM's, the one called `guid` if that is given."""
        written = kept.written
        if written is None or is_another(written.vm, self._vm_id):
            return False
        return not guid or same(guid, written.guid)

    def _keys(self) -> list[_Kept]:
        """The files that are there."""
        return [kept for name in KEY_FILES if (kept := self._kept(name)) is not None]

    def _kept(self, name: str) -> _Kept | None:
        path = f"{self._folder}/{name}"
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            return _Kept(name, problem=f"{path} can't be looked at: {error.strerror}")
        text = read_text(path) if stat.S_ISREG(status.st_mode) and status.st_uid == 0 else None
        if text is None:
            return _Kept(name, problem=f"{path} is no file of root's that can be read")
        try:
            written = msgspec.json.decode(text, type=_Written)
            key = SigningKey(written.guid, Secret(written.key))
        except (ValueError, RecursionError):
            # What a decoder says may hold a part of it.
            return _Kept(name, problem=f"{path} is damaged")
        wide = stat.S_IMODE(status.st_mode) & 0o077
        problem = f"{path} has mode {stat.S_IMODE(status.st_mode):04o}: others could read it" if wide else ""
        return _Kept(name, written, key, problem)

    def _marker(self) -> _Marker | None:
        """Who is confirmed; None where that can't be read: then everyone may be. Where no file is, nobody is."""
        path = f"{self._folder}/{GUID_FILE}"
        if not os.path.lexists(path):
            return _Marker("", ())
        try:
            return msgspec.json.decode(read_text(path) or "", type=_Marker)
        except (ValueError, RecursionError):
            return None


def same(one: str, other: str) -> bool:
    """Whether two GUIDs are the same one; letter case does not count."""
    return one.lower() == other.lower()


def _number(kept: _Kept) -> int:
    return kept.written.number if kept.written else 0


def _is_in(kept: _Kept, marker: _Marker | None) -> bool:
    guid = kept.written.guid if kept.written else ""
    return marker is None or any(same(guid, known) for known in marker.guids)


def _encoded(written: _Written | _Marker) -> bytes:
    return msgspec.json.encode(written) + b"\n"
