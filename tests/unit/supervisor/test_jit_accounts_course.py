# SPDX-License-Identifier: Apache-2.0
"""When JIT accounts are made and end: by goal states, by clocks that jump, by the next process, and after failures."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from ipc.descriptors import sealed_memfd
from ipc.errors import CommitError
from ipc.messages import (
    CommitAccount,
    CommitFailed,
    CommitSudo,
    Committed,
    FileChange,
    HashPassword,
    Message,
    MoveJitExpiry,
    PasswordHashed,
    RemoteAccess,
    RemoteUser,
    RemoveJitAccount,
)
from ipc.messages.jit import ORDINARY
from supervisor.config import parse
from supervisor.jit_accounts import LOOK_EVERY_S, JitAccounts
from supervisor.jit_times import SECOND_LOOK_S, Ends
from supervisor.journal import Journal, UnusableJournal
from supervisor.loop import Loop
from supervisor.records import JitAccount, JitAccountNoted
from tests.unit.supervisor.turned import HandClock, run, turn_until
from workers.provisioning.main import on_hash_password

if TYPE_CHECKING:
    from supervisor.parts import Parts

A_DAY = 86400
UID = 1007
NOON = 1_800_000_000


class SetClock(HandClock):
    """Its wall clock may be set, by so many seconds, while the other one goes on."""

    ahead = 0.0

    def wall(self) -> float:
        return self.now + self.ahead


class Machine:
    """Stands where the workers are: answers their orders, by name of account, and knows whom there is."""

    def __init__(self) -> None:
        self.winding_up = False
        self.ends: dict[str, str | int] = {}
        self.orders: list[Message] = []
        self.failing: type[Message] | None = None
        self.ordinary = ""

    async def do(self, _kind: str, order: Message, descriptors: tuple[int, ...] = (), **_how: object) -> list[Any]:
        self.orders.append(order)
        if isinstance(order, HashPassword):
            (answer,) = on_hash_password(order, tuple(map(os.dup, descriptors)))
            return [(cast("PasswordHashed", answer), ())]
        if isinstance(order, self.failing or ()):
            return [(CommitFailed("a failure", changed=False), ())]
        if isinstance(order, CommitAccount):
            if order.user_name == self.ordinary:
                return [(CommitFailed(f"account {order.user_name} has another comment", changed=False), ())]
            self.ends[order.user_name] = order.expires
            return [(Committed((FileChange(order.home, 0o755, UID, UID),), "done"), ())]
        if isinstance(order, RemoveJitAccount) and order.user_name == self.ordinary:
            return [(CommitFailed(f"{order.user_name} {ORDINARY}: it is left alone", changed=False), ())]
        if isinstance(order, MoveJitExpiry):
            self.ends[order.user_name] = order.day
        elif isinstance(order, RemoveJitAccount):
            self.ends.pop(order.user_name, None)
        return [(Committed((), "done"), ())]

    async def open_password(self, envelope: str) -> int:
        if not envelope:
            raise CommitError("no envelope")
        return sealed_memfd("password", envelope.encode())


class Life:
    """A supervisor's part in it; another one after that has the same journal and machine."""

    def __init__(self, folder: Path) -> None:
        self.machine, self.clock, self.path = Machine(), SetClock(), folder / "journal"
        self.clock.now = NOON
        self.loop = Loop(self.clock)
        self.host_now: Callable[[], float | None] = lambda: self.clock.now
        self.said: list[str] = []
        self.journal = Journal(self.path)
        self.accounts = self.begin()

    def begin(self) -> JitAccounts:
        parts = SimpleNamespace(
            loop=self.loop,
            fleet=self.machine,
            journal=self.journal,
            config=parse("").config,
            say=lambda _level, _source, text: self.said.append(text),
            audit=lambda _: None,
        )
        self.accounts = JitAccounts(cast("Parts", parts), self.machine, self._host_now)
        self.accounts.begin()
        return self.accounts

    def _host_now(self) -> float | None:
        return self.host_now()

    def again(self) -> None:
        """After a kill."""
        self.journal.close()
        self.journal = Journal(self.path)
        self.begin()

    def take(self, **ends_in_s: float) -> None:
        users = [RemoteUser(name, "secret", int(self.clock.wall() + left)) for name, left in ends_in_s.items()]
        run(self.loop, self.accounts.take(RemoteAccess("1", tuple(users))))

    def pass_by(self, seconds: float, condition: Callable[[], bool]) -> None:
        self.clock.now += seconds
        turn_until(self.loop, condition)


@pytest.fixture
def life(tmp_path: Path) -> Iterator[Life]:
    life = Life(tmp_path)
    yield life
    life.journal.close()


def test_a_clock_that_is_set_on_ends_no_account_that_the_host_says_lives(life: Life) -> None:
    life.take(one=3600)
    life.clock.ahead = 365 * A_DAY
    for _ in range(10):
        life.clock.now += LOOK_EVERY_S
        run(life.loop, life.accounts.take(RemoteAccess("1", (RemoteUser("one", "secret", NOON + 3600),))))
    assert set(life.machine.ends) == {"one"}
    # Its time by both clocks.
    life.pass_by(3600, lambda: life.machine.ends == {})


def test_where_the_host_tells_no_time_there_is_a_second_look(life: Life) -> None:
    life.host_now = lambda: None
    life.take(one=3600, two=3600)
    for _ in range(2):
        # Set on, and right again before the second look: nothing has ended.
        life.clock.ahead = A_DAY
        run(life.loop, life.accounts._sweep())
        life.clock.now += SECOND_LOOK_S - 1
        run(life.loop, life.accounts._sweep())
        life.clock.ahead = 0.0
        run(life.loop, life.accounts._sweep())
        assert set(life.machine.ends) == {"one", "two"}
    life.clock.ahead = A_DAY
    run(life.loop, life.accounts._sweep())
    life.pass_by(SECOND_LOOK_S, lambda: life.machine.ends == {})


def test_a_clock_that_nobody_has_set_is_believed_at_once(life: Life) -> None:
    life.host_now = lambda: None
    life.take(one=3600, two=7200)
    life.pass_by(3600, lambda: set(life.machine.ends) == {"two"})


def test_what_is_over_at_first_sight_is_looked_at_twice() -> None:
    """A process that was started with a wrong clock has nothing else to go by."""
    clock = SetClock()
    ends = Ends(clock, lambda: None)
    clock.ahead = A_DAY
    expires_s = int(clock.now) + 3600
    assert ends.left_s("one", expires_s) == SECOND_LOOK_S
    clock.now += SECOND_LOOK_S
    assert ends.left_s("one", expires_s) == 0


def test_an_end_is_seen_within_a_minute_whatever_the_clock_does(life: Life) -> None:
    life.host_now = life.clock.wall
    life.take(one=3600, two=2 * A_DAY)
    assert set(life.machine.ends) == {"one", "two"}
    # Both clocks go a day on; the next look comes within a minute.
    life.clock.ahead = A_DAY
    life.pass_by(LOOK_EVERY_S, lambda: set(life.machine.ends) == {"two"})
    life.take(two=A_DAY)
    orders = len(life.machine.orders)
    life.take(two=A_DAY)
    assert len(life.machine.orders) == orders
    life.clock.ahead -= 365 * A_DAY
    life.take(two=A_DAY)
    assert isinstance(life.machine.orders[-1], MoveJitExpiry)
    life.take(two=-1)
    assert life.machine.ends == {}
    assert life.journal.state.jit == {}


def test_what_was_begun_is_taken_back_by_the_next_process_and_the_rest_stays(life: Life) -> None:
    life.take(whole=3600)
    life.journal.append(JitAccountNoted("half", int(life.clock.now) + 3600, "begun"))
    life.journal.append(JitAccountNoted("going", int(life.clock.now) + 3600, "ending"))
    life.machine.ends |= {"half": "", "going": ""}
    life.again()
    turn_until(life.loop, lambda: set(life.machine.ends) == {"whole"})
    # Nobody has it any more, says passwd of this machine: nothing is left to be known of.
    assert life.journal.state.jit == {}


def test_a_removal_that_fails_is_tried_again_with_growing_patience(life: Life) -> None:
    life.take(one=3600)
    life.machine.failing = RemoveJitAccount
    run(life.loop, life.accounts.take(None))
    for tries in (1, 2):
        assert len([text for text in life.said if "can't be removed: a failure" in text]) == tries
        life.pass_by(LOOK_EVERY_S * tries, lambda due=tries + 1: str(life.said).count("can't be removed") == due)  # type: ignore[misc]
    life.machine.failing = None
    life.pass_by(4 * LOOK_EVERY_S, lambda: life.machine.ends == {})
    assert life.journal.state.jit == {}


def test_a_failure_takes_back_what_was_made_and_only_that(life: Life) -> None:
    life.machine.failing = CommitSudo
    life.take(one=3600)
    assert life.machine.ends == {}
    life.machine.failing = CommitAccount
    life.take(two=3600)
    removals = [order.user_name for order in life.machine.orders if isinstance(order, RemoveJitAccount)]
    assert removals == ["one"]
    assert life.journal.state.jit == {}
    assert "JIT account 'two' is not made: a failure; tried again in 60 s" in life.said
    # Without another goal state, with growing patience.
    for pause in (60, 120, 240):
        life.pass_by(pause, lambda due=f"tried again in {2 * pause} s": due in str(life.said))  # type: ignore[misc]
    life.machine.failing = None
    life.pass_by(480, lambda: set(life.machine.ends) == {"two"})
    run(life.loop, life.accounts.take(None))
    assert life.machine.ends == {}


def test_who_was_never_made_and_is_an_ordinary_account_is_forgotten(life: Life) -> None:
    """Killed between the note and useradd's refusal."""
    life.machine.ordinary = "alice"
    life.journal.append(JitAccountNoted("alice", NOON + 3600, "begun"))
    life.again()
    turn_until(life.loop, lambda: life.journal.state.jit == {})
    assert [text for text in life.said if "can't be removed" in text] == []
    life.pass_by(LOOK_EVERY_S, lambda: True)
    assert len([order for order in life.machine.orders if isinstance(order, RemoveJitAccount)]) == 1


def test_it_is_known_by_the_uid_that_it_was_made_with(life: Life) -> None:
    life.take(one=3600)
    assert life.journal.state.jit == {"one": JitAccount(NOON + 3600, "made", UID)}
    life.take(one=7200)
    run(life.loop, life.accounts.take(None))
    orders = [order for order in life.machine.orders if isinstance(order, MoveJitExpiry | RemoveJitAccount)]
    assert [order.uid for order in orders] == [UID, UID]


def test_without_a_journal_nothing_is_made(life: Life) -> None:
    life.journal.close()
    life.journal = UnusableJournal(life.path, "the disk is full")
    life.begin()
    life.take(one=3600)
    assert life.machine.ends == {}
    assert "JIT account 'one' is not made: the disk is full; tried again in 60 s" in life.said


def test_no_more_than_sixty_four_and_no_name_that_is_none(life: Life) -> None:
    life.take(**{f"user{number}": 3600 for number in range(70)}, **{"-r": 3600, "root": 3600, "a:b": 3600})
    assert len(life.machine.ends) == 64
    assert not set(life.machine.ends) & {"-r", "root", "a:b"}
    assert len([text for text in life.said if "there are more than 64" in text]) == 6
    run(life.loop, life.accounts.take(RemoteAccess("2", (RemoteUser("user1", "secret", None, "no time"),))))
    assert set(life.machine.ends) == {"user1"}
