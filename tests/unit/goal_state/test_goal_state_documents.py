# SPDX-License-Identifier: Apache-2.0
"""What is read anew of a goal state's documents, in which order, and that its certificates count with all of them."""

from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest

from ipc.descriptors import sealed_memfd
from ipc.errors import HostError
from ipc.messages import GoalState, HostingEnvironment, Message, RoleInstance
from supervisor.contact import UnusableDocument
from supervisor.goal_state.documents import AHEAD, Documents
from supervisor.loop import Loop, Promise
from tests.unit.supervisor.turned import HandClock, run, turn_until
from workers.parser import extensions_config, hosting_environment

T = TypeVar("T", bound=Message)
EXTENSIONS = b'<Extensions version="1.0.0.0" goalStateIncarnation="1"><StatusUploadBlob /></Extensions>'
ENVIRONMENT = (
    '<HostingEnvironmentConfig goalStateIncarnation="{number}"><Deployment name="{name}" incarnation="{number}" />'
    '<Incarnation number="{number}" instance="vm_0" /><Role name="Role" /></HostingEnvironmentConfig>'
)


class Ground:
    """A host that has these documents, the parser's readers in this process, and certificates that take their time."""

    def __init__(self) -> None:
        self.loop = Loop(HandClock())
        self.name = "tenant"
        self.number = "0"
        self.read: list[str] = []
        self.asked: list[str] = []
        self.begun: list[int] = []
        self.broken = ""
        self.held: Promise[None] = Promise()
        self.held.fulfil(None)
        self.wanted: list[bool] = []
        self.host = self
        self.documents = Documents(self.loop, self, self, lambda: "", self.begun.append)  # type: ignore[arg-type]

    async def fetch(self, url: str, what: str, most_bytes: int) -> bytes:
        self.asked.append(url)
        texts = {"e": EXTENSIONS, "h": ENVIRONMENT.format(number=self.number, name=self.name).encode(), "s": b"<S/>"}
        return texts[url]

    async def parse_with(
        self, request: Message, name: str, document: bytes, kind: type[T]
    ) -> tuple[T, tuple[int, ...]]:
        await self.held
        self.read.append(name)
        if name == self.broken:
            raise UnusableDocument(f"{name} is broken")
        message, *contents = extensions_config.parse(document)
        assert isinstance(message, kind)
        return message, tuple(sealed_memfd("test", content) for content in contents)

    async def parse(self, request: Message, name: str, document: bytes, kind: type[T]) -> T:
        self.read.append(name)
        if name == self.broken:
            raise UnusableDocument(f"{name} is broken")
        message = hosting_environment.parse(document)
        assert isinstance(message, kind)
        return message

    def look_ahead(self) -> None:
        self.asked.append("opener")

    async def refresh(self, url: str, wanted: Promise[bool]) -> None:
        self.asked.append(url)
        self.wanted.append(await wanted)

    async def catch_up(self) -> None:
        raise AssertionError

    def taken(self, number: str) -> Coroutine[Promise[Any], None, Any]:
        self.number = number
        return self.documents.fetch(GoalState(number, "c", "", RoleInstance("i", "n", "h", "s", "e", "c")), b"<G/>")


def test_an_environment_that_differs_in_its_numbers_alone_is_read_once() -> None:
    ground = Ground()
    for number in ("8", "9", "10"):
        fetched = run(ground.loop, ground.taken(number))
        assert fetched.environment == HostingEnvironment("vm_0", "Role", "tenant")
        assert f'"{number}"'.encode() in fetched.files["HostingEnvironmentConfig.xml"]
    assert ground.read.count("hosting-environment") == 1
    assert ground.read.count("extensions-config") == 3
    ground.name = "another"
    assert run(ground.loop, ground.taken("11")).environment.deployment_name == "another"
    # The same text around another place of the number is another document.
    ground.name = '12" x="'
    run(ground.loop, ground.taken("12"))
    assert ground.read.count("hosting-environment") == 3


@pytest.mark.parametrize("number", ["", "x", "²", '1" a="2'])
def test_with_a_number_that_is_none_it_is_read_each_time_it_differs(number: str) -> None:
    ground = Ground()
    for _ in range(2):
        run(ground.loop, ground.taken(number))
    run(ground.loop, ground.taken(f"{number}0"))
    assert ground.read.count("hosting-environment") == 2


def test_one_that_could_not_be_read_is_read_again() -> None:
    ground = Ground()
    ground.broken = "hosting-environment"
    for number in ("1", "2"):
        with pytest.raises(HostError, match="is broken"):
            run(ground.loop, ground.taken(number))
    assert ground.read.count("hosting-environment") == 2


def test_certificates_are_asked_for_while_others_are_read_and_taken_with_all_of_them() -> None:
    ground = Ground()
    ground.documents.look_ahead()
    assert (ground.begun, ground.asked) == ([AHEAD], ["opener"])
    ground.held = Promise()
    outcome = ground.loop.start("fetch", ground.taken("1"))
    turn_until(ground.loop, lambda: "c" in ground.asked)
    assert (ground.asked, ground.wanted, outcome.done) == (["opener", "e", "h", "s", "c"], [], False)
    ground.held.fulfil(None)
    turn_until(ground.loop, lambda: outcome.done)
    turn_until(ground.loop, lambda: outcome.result().certificates.done)
    assert ground.wanted == [True]


@pytest.mark.parametrize("broken", ["extensions-config", "hosting-environment"])
def test_with_one_document_that_cant_be_read_no_certificate_is_taken(broken: str) -> None:
    ground = Ground()
    ground.broken = broken
    with pytest.raises(HostError, match="is broken"):
        run(ground.loop, ground.taken("1"))
    turn_until(ground.loop, lambda: bool(ground.wanted))
    assert ground.wanted == [False]
