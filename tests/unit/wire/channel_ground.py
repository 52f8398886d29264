# SPDX-License-Identifier: Apache-2.0
"""What the secure channel's tests stand on: the emulated host, the parser's readers, a clock to be put on."""

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from ipc.errors import InputError
from ipc.messages import Message
from supervisor.audit_log_entry import Entry
from supervisor.clock import SystemClock
from supervisor.contact import UnusableDocument
from supervisor.loop import Loop, Promise
from supervisor.redaction import Redactor
from supervisor.standing import Standing
from supervisor.vm_identity import VmId
from supervisor.wire.host import Patience, WireServer
from supervisor.wire.key_store import KeyStore
from supervisor.wire.retry import RetryPolicy
from supervisor.wire.secure_channel import SecureChannel, Surroundings
from tests.fabric import wireserver
from tests.unit.wire.turning import finish, turn_until
from workers.parser import channel_key, key_status

T = TypeVar("T", bound=Message)
READERS: dict[str, Callable[[bytes], Message]] = {"key-status": key_status.parse, "channel-key": channel_key.parse}
VM_ID = VmId("2F8A7C41-5B6D-4E90-9A3B-7C1D2E4F6A80")
PROMPT = RetryPolicy(delay_s=0.01, throttled_delay_s=0.01)


class PutOn(SystemClock):
    """The machine's clocks, put on by `ahead_s`."""

    ahead_s = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead_s

    def wall(self) -> float:
        return super().wall() + self.ahead_s


@dataclass
class Ground:
    """One agent's end of the channel, and the host. `parsed` names the documents that were parsed, in order."""

    server: wireserver.WireServer
    folder: Path
    holder: str = ""
    parsed: list[str] = field(default_factory=list)
    told: list[Entry] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = PutOn()
        self.loop = Loop(self.clock)
        self.redactor = Redactor()
        self.standing = Standing(self.clock)
        self.wire, self.channel = self._connected()

    def start_anew(self) -> None:
        """As a fresh process: nothing is known but what is on disk."""
        self.wire.close()
        self.wire, self.channel = self._connected()

    def run(self, work: Coroutine[Promise[Any], None, Any]) -> Any:
        return finish(self.loop, self.loop.start("test", work))

    def begin(self) -> SecureChannel:
        self.run(self.channel.begin())
        return self.channel

    def pass_time(self, seconds: float) -> None:
        """Let so much time pass at once, and whatever is due then happen."""
        self.clock.ahead_s += seconds
        for _ in range(3):
            self.loop.call_later(0.0, lambda: None)
            self.loop.turn()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        turn_until(self.loop, condition)

    def asked(self, route: str) -> int:
        """How many requests of `route` the host has had."""
        return len(self.server.requests(route))

    def look_after(self, seconds: float) -> None:
        """Let so much time pass, and the look that is due then come to its end."""
        looks = self.asked("channelstatus")
        self.pass_time(seconds)
        self.wait_for(lambda: self.asked("channelstatus") > looks)
        self.settle()

    def settle(self) -> None:
        """Until the host has heard nothing new for some turns."""
        quiet = 0
        while quiet < 5:
            before = len(self.server.records)
            self.loop.call_later(0.01, lambda: None)
            self.loop.turn()
            quiet = quiet + 1 if len(self.server.records) == before else 0

    def goal_state(self) -> bool:
        """Ask for one; whether it was signed."""
        self.run(self.wire.fetch_goal_state())
        return self.server.requests("goalstate")[-1].header("x-ms-azure-host-authorization") is not None

    def events(self) -> list[tuple[str, str]]:
        """What the audit log was told: what, and the decision."""
        return [(entry.request, entry.decision) for entry in self.told]

    async def parse(self, request: Message, name: str, document: bytes, kind: type[T]) -> T:
        """As Contact.parse does it by a worker."""
        self.parsed.append(name)
        try:
            answer = READERS[name](document)
        except InputError as error:
            raise UnusableDocument(f"the host's {name} document is unusable: {error}") from None
        assert isinstance(answer, kind)
        return answer

    def _connected(self) -> tuple[WireServer, SecureChannel]:
        patience = Patience(
            questions=PROMPT, documents=PROMPT, first_look=RetryPolicy(delay_s=0.01, after_status=False)
        )
        address, port = self.server.address
        wire = WireServer(self.loop, address, port=port, patience=patience)
        around = Surroundings(
            KeyStore(str(self.folder), VM_ID),
            lambda: self.holder,
            lambda level, _, text: self.said.append(f"{level}: {text}"),
            self.told.append,
            self.redactor.register,
            self.standing,
        )
        return wire, SecureChannel(self.loop, wire, self.parse, around)


@contextmanager
def ground(folder: Path, *channel: str) -> Iterator[Ground]:
    """The ground with the host's channel set as `channel` has it."""
    with wireserver.WireServer() as server:
        server.set_channel(*channel)
        made = Ground(server, folder)
        try:
            yield made
        finally:
            made.wire.close()
