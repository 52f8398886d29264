# SPDX-License-Identifier: Apache-2.0
"""The instance metadata client: its two requests, and which failures are the service's."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ipc.errors import HostError, HostRefused, HostUnreachable, ResourceGone
from supervisor.loop import Loop
from supervisor.wire.host import WireServer
from supervisor.wire.metadata import Metadata, is_service_failure
from supervisor.wire.retry import RetryPolicy
from tests.unit.wire.answering import AnsweringServer
from tests.unit.wire.scripted_server import answer
from tests.unit.wire.turning import Run

SOON = RetryPolicy(attempts=2, delay_s=0.01, throttled_delay_s=0.01, throttled_attempts=2)


@contextmanager
def client(loop: Loop, port: int) -> Iterator[Metadata]:
    service = Metadata(WireServer(loop, "127.0.0.1"), address="127.0.0.1", port=port, patience=SOON)
    yield service
    service.close()


def test_both_requests(run: Run[bytes], loop: Loop) -> None:
    with AnsweringServer(lambda _: answer(b"{}")) as server, client(loop, server.port) as service:
        assert run(service.compute()) == run(service.instance()) == b"{}"
    compute, instance = server.requests
    assert server.connections == 1
    assert compute.target == "/metadata/instance/compute?api-version=2018-02-01"
    assert instance.target == "/metadata/instance?api-version=2018-02-01"
    assert compute.fields["metadata"] == instance.fields["metadata"] == "True"
    assert compute.fields["user-agent"] == "WALinuxAgent/2.15.0.1"
    assert instance.fields["user-agent"] == "WALinuxAgent/2.15.0.1+health"


def test_it_does_not_tell_the_time_nor_who_we_are(run: Run[bytes], loop: Loop) -> None:
    """Others on the network could answer in its place; the WireServer alone sets what requests are signed with."""
    date = "Date: Mon, 01 Jan 2001 00:00:00 GMT"
    with AnsweringServer(lambda _: answer(b"", "401 Who", date)) as server:
        wire = WireServer(loop, "127.0.0.1")
        wire.on_unknown = lambda: pytest.fail("the secure channel was doubted")
        service = Metadata(wire, address="127.0.0.1", port=server.port, patience=SOON)
        with pytest.raises(HostRefused):
            run(service.compute())
        service.close()
    assert wire.sealing.time.guest_is_off_s == 0


@pytest.mark.parametrize(
    ("status", "failed"),
    [("500 No", True), ("503 Busy", True), ("410 Gone", True), ("429 Slower", False), ("404 No", False)],
)
def test_whose_failure_it_is(run: Run[bytes], loop: Loop, status: str, failed: bool) -> None:
    with (
        AnsweringServer(lambda _: answer(b"", status)) as server,
        client(loop, server.port) as service,
        pytest.raises(HostError) as caught,
    ):
        run(service.compute())
    assert isinstance(caught.value, HostRefused | ResourceGone)
    assert is_service_failure(caught.value) is failed


def test_no_answer_says_nothing_of_the_service(run: Run[bytes], loop: Loop) -> None:
    with (
        AnsweringServer(lambda _: b"") as server,
        client(loop, server.port) as service,
        pytest.raises(HostUnreachable, match="2 attempts") as caught,
    ):
        run(service.instance())
    assert not is_service_failure(caught.value)
