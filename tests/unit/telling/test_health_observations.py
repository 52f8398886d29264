# SPDX-License-Identifier: Apache-2.0
"""What is observed of the host's own services, how often that is told, and when a signal is unhealthy."""

import json
from typing import Any

import pytest

from ipc.errors import HostError, HostRefused, HostUnreachable, ResourceGone
from ipc.messages import InstanceMetadata, Message, ParseInstanceMetadata
from supervisor.contact import UnusableDocument
from supervisor.loop import Loop
from supervisor.redaction import Redactor
from supervisor.reporting.health_service import HealthService, Observation, report
from supervisor.reporting.minute import InstanceFacts, Minute
from tests.unit.supervisor.turned import HandClock, run

METADATA = "InstanceMetadataHeartbeat"
WHOLE = InstanceMetadata("westeurope", "sub", "group", "vm", 2, True)


class Posts:
    """The health service, and the clock by which it is told."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.loop = Loop(self.clock)
        self.bodies: list[dict[str, Any]] = []
        self.error: HostError | None = None
        self.service = HealthService(self.loop, self._post, Redactor().clean)

    async def _post(self, body: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.bodies.append(json.loads(body))

    def told(self) -> dict[str, Any]:
        """What one post tells, by the signal's name."""
        run(self.loop, self.service.post())
        return {each["ObservationName"]: each for each in self.bodies.pop()["Observations"]} if self.bodies else {}


class Service:
    """Instance metadata as the test has it; a list of answers, the last of which stays."""

    def __init__(self, *answers: bytes | HostError) -> None:
        self.answers = list(answers)
        self.parsed = 0
        self.whole = True

    async def instance(self) -> bytes:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, HostError):
            raise answer
        return answer

    async def health(self) -> None:
        raise HostUnreachable("silent")

    async def parse(
        self, request: Message, name: str, document: bytes, kind: type[InstanceMetadata]
    ) -> InstanceMetadata:
        assert (request, name, kind) == (ParseInstanceMetadata(), "instance-metadata", InstanceMetadata)
        self.parsed += 1
        if document == b"bad":
            raise UnusableDocument("no JSON")
        return InstanceMetadata(document.decode(), "", "", "", 0, self.whole)


def test_a_post_has_at_most_ten_observations_with_texts_as_short_as_they_must_be() -> None:
    body = json.loads(report([Observation("n" * 99, False, "d" * 999, "v" * 999)] * 12))
    assert (body["Api"], body["Version"], body["Source"]) == ("reporttargethealth", "1.0", "WALinuxAgent")
    assert len(body["Observations"]) == 10
    one = body["Observations"][0]
    assert [len(one[name]) for name in ("ObservationName", "Description", "Value")] == [64, 128, 128]
    assert one["IsHealthy"] is False


def test_each_signal_is_told_once_a_post_and_nothing_twice() -> None:
    posts = Posts()
    for _ in range(5):
        posts.service.heard("GuestAgentPluginStatus")
        posts.service.heard("GuestAgentPluginArtifact", description="manifest")
    assert sorted(posts.told()) == ["GuestAgentPluginArtifact", "GuestAgentPluginStatus"]
    assert posts.told() == {}


@pytest.mark.parametrize(("signal", "patience_s"), [("GuestAgentPluginStatus", 300.0), (METADATA, 180.0)])
def test_a_signal_is_unhealthy_only_after_so_long_without_success(signal: Any, patience_s: float) -> None:
    posts = Posts()
    posts.service.heard(signal, "HTTP status 500 at https://a.example/?sv=1&sig=c2VjcmV0")
    posts.clock.now += patience_s - 1
    posts.service.heard(signal, "HTTP status 500")
    assert posts.told()[signal]["IsHealthy"] is True
    posts.clock.now += 1
    posts.service.heard(signal, "HTTP status 500 at https://a.example/?sv=1&sig=c2VjcmV0")
    told = posts.told()[signal]
    assert (told["IsHealthy"], told["Value"]) == (False, "HTTP status 500 at https://a.example/?[redacted]")
    posts.service.heard(signal)
    posts.clock.now += patience_s
    posts.service.heard(signal, "again")
    assert posts.told()[signal]["IsHealthy"] is True


def test_observations_go_whatever_becomes_of_their_post() -> None:
    posts = Posts()
    posts.service.heard("GuestAgentPluginStatus")
    posts.error = HostUnreachable("reset")
    posts.told()
    posts.error = None
    assert (posts.told(), posts.service.failed_posts) == ({}, 1)


def test_the_same_bytes_of_instance_metadata_cost_no_second_parser() -> None:
    service, loop = Service(b"one", b"one", b"two"), Loop(HandClock())
    facts = InstanceFacts(service.parse, service)
    seen = []
    for _ in range(4):
        assert run(loop, facts.ask()) == ""
        seen.append(facts.facts.location if facts.facts is not None else "")
    assert (service.parsed, seen) == (2, ["one", "one", "two", "two"])


@pytest.mark.parametrize(
    ("answer", "healthy"),
    [
        (HostRefused(500, "GET instance"), False),
        (HostRefused(503, "GET instance"), False),
        (ResourceGone("410"), False),
        (HostRefused(429, "GET instance"), True),
        (HostRefused(404, "GET instance"), True),
        (HostUnreachable("refused"), True),
        (b"bad", False),
    ],
    ids=str,
)
def test_what_counts_against_instance_metadata_is_its_own_fault(answer: bytes | HostError, healthy: bool) -> None:
    service = Service(answer)
    facts = InstanceFacts(service.parse, service)
    loop = Loop(HandClock())
    assert [run(loop, facts.ask()) == "" for _ in range(2)] == [healthy, healthy]
    assert service.parsed == (answer == b"bad")


def test_metadata_without_a_network_interface_is_none_of_a_service_in_good_health() -> None:
    service = Service(b"westeurope")
    service.whole = False
    facts = InstanceFacts(service.parse, service)
    assert run(Loop(HandClock()), facts.ask()) == "it knows no network interface of this VM"
    assert facts.facts is not None


def test_one_round_asks_both_and_posts_once() -> None:
    posts, service = Posts(), Service(b"westeurope")
    facts = InstanceFacts(service.parse, service)
    run(posts.loop, Minute(posts.loop, service, facts, posts.service).once())
    assert [each["ObservationName"] for each in posts.bodies[0]["Observations"]] == [METADATA]
