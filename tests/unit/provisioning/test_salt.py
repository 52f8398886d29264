# SPDX-License-Identifier: Apache-2.0
"""The salt of a provisioning: drawn fairly, once, and kept by the journal until a provisioning begins anew."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from supervisor.fulfilment import ALPHANUMERIC, draw_salt
from supervisor.journal import Journal
from supervisor.records import ProvisioningBegun, SaltDrawn


def _source(numbers: Iterable[int]) -> Callable[[int], bytes]:
    """A source of random bytes, one at a time, that are not random."""
    left = iter(numbers)
    return lambda _: bytes([next(left)])


def test_every_character_is_as_likely_as_any_other() -> None:
    source = _source(range(256))
    drawn = "".join(draw_salt(source) for _ in range(3))
    assert len(drawn) == 3 * 64
    assert set(Counter(drawn[:186]).values()) == {3}
    assert set(drawn) == set(ALPHANUMERIC)


def test_bytes_that_would_favour_some_are_passed_over() -> None:
    assert draw_salt(_source([255, 248, *[0] * 64])) == "A" * 64


def test_it_stays_over_restarts_and_goes_with_its_provisioning(tmp_path: Path) -> None:
    salt = "x" * 64
    journal = Journal(tmp_path / "journal")
    journal.append(ProvisioningBegun("vm"))
    journal.append(SaltDrawn(salt))
    journal.close()
    again = Journal(tmp_path / "journal")
    assert again.state.salt == salt
    again.append(ProvisioningBegun("vm"))
    assert again.state.salt == salt
    again.append(ProvisioningBegun("another"))
    assert again.state.salt == ""
