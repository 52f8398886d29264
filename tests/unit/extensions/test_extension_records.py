# SPDX-License-Identifier: Apache-2.0
"""What the journal knows of extensions: replayed, compacted, bounded, and never a number given twice."""

import zlib
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace

from ipc.errors import StateError
from supervisor.extension_records import (
    MOST_CHARACTERS,
    AnyExtensionRecord,
    CommandEnded,
    CommandIntended,
    End,
    EndKept,
    HandlerGone,
    Run,
    Undertaking,
    UndertakingBegun,
    UndertakingEnded,
)
from supervisor.journal import COMPACT_BYTES, HEAD, MAGIC, MAX_FILE_BYTES, Journal
from supervisor.records import ProvisioningBegun
from tests.unit.extensions.lives import HANDLER, OFF, ON, KilledError, Played
from tests.unit.extensions.test_next_step import V2, one


class Journalled(Played):
    """The same life, written down; with each record compacted and read again."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.journal = Journal(path)

    def note(self, record: AnyExtensionRecord) -> None:
        super().note(record)
        self.journal.append(record)
        self.journal.compact()
        self.journal.close()
        self.journal = Journal(self.journal.path)
        assert self.journal.state.extensions == self.known


def test_a_life_is_the_same_compacted_and_replayed_at_every_record(tmp_path: Path) -> None:
    played = Journalled(tmp_path / "journal")
    for wanted in (ON, V2, one("one", "g3", "2.0.0.0"), replace(OFF, goal_state="g4")):
        played.play(wanted)
    assert played.journal.state.extensions.last_number == played.known.last_number > 8
    played.journal.close()


def test_numbers_stay_given_when_all_else_is_gone(tmp_path: Path) -> None:
    played = Journalled(tmp_path / "journal")
    played.play(ON)
    played.note(HandlerGone(HANDLER))
    played.journal.close()
    journal = Journal(tmp_path / "journal")
    assert journal.state.extensions.handlers == {}
    assert journal.state.extensions.last_number == 2
    journal.append(ProvisioningBegun("another"))
    assert journal.state.extensions.last_number == 2
    journal.close()


def test_what_can_not_be_is_refused() -> None:
    played = Played()
    played.killed_before = lambda record: isinstance(record, CommandEnded)
    with pytest.raises(KilledError):
        played.play(ON)
    known = played.known
    again = CommandIntended(HANDLER, Run(1, "enable", "enable", "1.0.0.0", "", "boot"))
    for wrong in (
        again,
        CommandEnded(HANDLER, 9, 0),
        CommandEnded("Other", 1, 0),
        UndertakingEnded("Other", "b", 0, ""),
    ):
        with pytest.raises(StateError):
            wrong.on(known)
    ended = CommandEnded(HANDLER, 1, 0).on(known)
    with pytest.raises(StateError, match="never under way"):
        CommandEnded(HANDLER, 1, 0).on(ended)


def test_a_large_journal_is_not_written_anew_with_each_record(tmp_path: Path) -> None:
    """What hundreds of failed handlers leave is more than compaction can make small."""
    journal = Journal(tmp_path / "journal")
    undertaking = played_undertaking()
    text = "x" * MOST_CHARACTERS
    sizes = []
    for number in range(300):
        journal.append(UndertakingBegun(f"Handler.N{number}", undertaking))
        journal.append(UndertakingEnded(f"Handler.N{number}", "boot", 1007, text))
        sizes.append(journal.size_bytes)
    shrank = sum(later < earlier for earlier, later in pairwise(sizes))
    assert sizes[-1] > 2 * COMPACT_BYTES
    assert 1 <= shrank <= 4
    with pytest.raises(StateError):
        journal.append(UndertakingEnded("Handler.N1", "boot", 1007, text + "x"))
    journal.close()


def test_a_full_journal_is_neither_written_anew_each_time_nor_lost(tmp_path: Path) -> None:
    """Of thousands of extensions, whose names a host makes up, all have failed."""
    path, undertaking, text = tmp_path / "journal", played_undertaking(), "\u20ac" * MOST_CHARACTERS
    end = End("g", "enable", 1, "1.0", "boot", 1007, "x" * MOST_CHARACTERS)
    content = b"".join(packed(EndKept(f"Handler.N{number // 60}", f"e{number}", end)) for number in range(7020))
    path.write_bytes(MAGIC + content)
    journal, sizes, refused = Journal(path), [], 0
    for number in range(600):
        try:
            journal.append(UndertakingBegun("Another", replace(undertaking, extension=f"e{number}")))
            journal.append(UndertakingEnded("Another", "boot", 1007, text))
        except StateError as error:
            assert "is full" in str(error)  # noqa: PT017 - the first ones fit
            refused += 1
        sizes.append(journal.size_bytes)
    journal.close()
    assert max(sizes) <= MAX_FILE_BYTES
    assert 0 < refused < 600
    assert sum(later < earlier for earlier, later in pairwise(sizes)) < 20
    journal = Journal(path)
    assert len(journal.state.extensions.handlers) == 118
    journal.close()


def packed(record: AnyExtensionRecord) -> bytes:
    """As it stands in the file."""
    body = msgspec.msgpack.encode(record)
    return HEAD.pack(len(body), zlib.crc32(body, zlib.crc32(len(body).to_bytes(4, "little")))) + body


def played_undertaking() -> Undertaking:
    played = Played()
    played.killed_before = lambda record: isinstance(record, CommandIntended)
    with pytest.raises(KilledError):
        played.play(ON)
    assert played.life.undertaking is not None
    return played.life.undertaking
