# SPDX-License-Identifier: Apache-2.0
"""The secure channel's course against the emulated host: latched once, signed while ours, and never a second key."""

from pathlib import Path

import pytest

from ipc.errors import HostUnreachable
from supervisor.wire.key_store import GUID_FILE, KEY_FILES
from supervisor.wire.latching import LONGEST_WAIT_S
from supervisor.wire.secure_channel import ABSENT_PERIOD_S, PERIOD_S, SOON_S
from tests.unit.wire.channel_ground import Ground, ground

pytestmark = pytest.mark.root
YEAR_S = 365 * 86400.0
KEY_FILE = KEY_FILES[0]
MODES = ["version=1.0 audit", "version=1.0 enforce", "version=2.0 disabled", "version=2.0 audit", "version=2.0 enforce"]


def latched(at: Ground) -> str:
    """The GUID that the host knows; empty for none."""
    return at.server.channel().latched


def test_a_host_without_the_channel_is_asked_once_an_hour(tmp_path: Path) -> None:
    with ground(tmp_path) as at:
        assert at.begin().text == "none: this host has no such thing"
        assert not at.goal_state()
        at.pass_time(ABSENT_PERIOD_S - 60)
        at.settle()
        assert at.asked("channelstatus") == 1
        at.server.set_channel("enforce")
        at.look_after(60)
        assert at.channel.state == "ours"
        assert at.goal_state()
        assert at.server.refusals == ()


@pytest.mark.parametrize("words", MODES)
def test_a_channel_that_is_on_gets_one_key(tmp_path: Path, words: str) -> None:
    with ground(tmp_path, *words.split()) as at:
        channel = at.begin()
        guid = latched(at)
        assert guid
        assert f"requests are signed with key {guid} (version {words[8:11]}" in channel.text
        assert at.goal_state()
        assert at.events() == [
            ("key written", "done"),
            ("attest", "intended"),
            ("attest", "done"),
            ("ours", ""),
        ]
        for _ in range(3):
            at.look_after(PERIOD_S)
        assert (at.asked("channelkey"), at.asked("attestation"), latched(at)) == (1, 1, guid)
        # One for the first status, one for that with the key in it: the other two looks cost none.
        assert at.parsed == ["key-status", "channel-key", "key-status"]
        at.start_anew()
        at.begin()
        assert at.goal_state()
        assert (at.asked("channelkey"), at.asked("attestation"), at.server.refusals) == (1, 1, ())


@pytest.mark.parametrize("words", ["off", "version=1.0 disabled"])
def test_a_channel_that_is_off_gets_none(tmp_path: Path, words: str) -> None:
    with ground(tmp_path, *words.split()) as at:
        assert at.begin().state == "off"
        assert not at.goal_state()
        assert (at.asked("channelkey"), list(tmp_path.iterdir())) == (0, [])


def test_the_key_is_on_disk_before_it_is_attested_and_the_same_one_is_attested_again(tmp_path: Path) -> None:
    with ground(tmp_path, "enforce") as at:
        at.server.fault("attestation:status=503*1")
        channel = at.begin()
        assert channel.state == "unlatched"
        assert "HTTP status 503; nothing is signed" in channel.text
        assert list(at.standing.troubles) == ["secure channel"]
        written = (tmp_path / KEY_FILE).read_bytes()
        assert latched(at) == ""
        at.start_anew()
        at.begin()
        assert (tmp_path / KEY_FILE).read_bytes() == written
        assert f'"{latched(at)}"' in (tmp_path / GUID_FILE).read_text()
        assert (at.channel.state, at.asked("channelkey"), at.standing.troubles) == ("ours", 1, {})


def test_what_can_not_be_kept_is_never_attested(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with ground(tmp_path / "file" / "credentials", "enforce") as at:
        assert at.begin().state == "unlatched"
        assert (at.asked("attestation"), latched(at)) == (0, "")
        for _ in range(3):
            at.look_after(PERIOD_S)
        # Each attempt comes later than the last.
        assert at.asked("channelkey") == 3


def test_anothers_key_is_left_alone(tmp_path: Path) -> None:
    with ground(tmp_path, "audit", "latch-other") as at:
        channel = at.begin()
        assert f"with another's key {latched(at)}: nothing is signed" in channel.text
        assert not at.goal_state()
        assert (at.asked("channelkey"), at.events()) == (0, [("others", "")])
        assert at.said[0].startswith("error: ")
        assert "another's key" in at.standing.troubles["secure channel"]


@pytest.mark.parametrize("how", ["gone", "damaged"])
def test_a_lost_key_is_said_and_used_again_when_it_comes_back(tmp_path: Path, how: str) -> None:
    with ground(tmp_path, "audit") as at:
        at.begin()
        kept = (tmp_path / KEY_FILE).read_bytes()
        (tmp_path / KEY_FILE).unlink() if how == "gone" else (tmp_path / KEY_FILE).write_bytes(kept[:99])
        at.start_anew()
        assert at.begin().state == "lost"
        assert str(tmp_path / KEY_FILE if how == "damaged" else tmp_path) in at.channel.text
        assert not at.goal_state()
        assert at.asked("channelkey") == 1
        (tmp_path / KEY_FILE).write_bytes(kept)
        at.look_after(PERIOD_S)
        assert at.goal_state()
        assert at.standing.troubles == {}


def test_a_key_that_the_host_has_forgotten_makes_room_for_a_new_one(tmp_path: Path) -> None:
    with ground(tmp_path, "enforce") as at:
        at.begin()
        first = latched(at)
        at.server.set_channel("forget")
        at.look_after(PERIOD_S)
        assert f"the host does not take the stored key {first}; it is offered once more" in at.channel.text
        assert at.asked("channelkey") == 1
        at.look_after(PERIOD_S)
        assert latched(at) not in {"", first}
        assert ("attest", "failed") in at.events()
        assert at.goal_state()


def test_a_host_that_was_mistaken_finds_the_key_that_it_knew_before(tmp_path: Path) -> None:
    """It has no key for a moment, refuses ours, makes another, and then knows ours again."""
    with ground(tmp_path, "enforce") as at:
        at.begin()
        before = at.server.channel()
        at.server.set_channel("forget")
        at.look_after(PERIOD_S)
        at.look_after(PERIOD_S)
        assert latched(at) not in {"", before.latched}
        at.server.set_keys(before.keys, before.latched)
        at.look_after(PERIOD_S)
        assert (at.channel.state, at.goal_state()) == ("ours", True)
        assert at.server.requests("goalstate")[-1].status == 200


def test_switched_off_and_on_while_it_runs(tmp_path: Path) -> None:
    with ground(tmp_path, "version=1.0", "enforce") as at:
        at.begin()
        for words, signed in (("off", False), ("audit", True)):
            at.server.set_channel(words)
            at.look_after(PERIOD_S)
            assert at.goal_state() == signed
        assert (at.asked("channelkey"), at.asked("attestation")) == (1, 1)
        assert [what for what, decision in at.events() if not decision] == ["ours", "off", "ours"]


def test_a_host_that_has_it_no_more_is_looked_at_as_before_and_gets_signed_requests(tmp_path: Path) -> None:
    with ground(tmp_path, "enforce") as at:
        at.begin()
        guid = latched(at)
        at.server.set_channel("absent")
        at.look_after(PERIOD_S)
        at.wait_for(lambda: at.channel.state == "denied")
        assert (at.channel.state, at.goal_state(), list(at.standing.troubles)) == ("denied", True, ["secure channel"])
        at.start_anew()
        at.begin()
        assert (at.channel.state, at.goal_state()) == ("denied", True)
        assert "gone: this host has confirmed a key, and now says that it knows no such thing" in at.channel.text
        assert f"signed with key {guid} all the same" in at.channel.text
        at.server.set_channel("enforce")
        at.look_after(PERIOD_S)
        at.wait_for(lambda: at.channel.state == "ours")
        assert (at.goal_state(), at.standing.troubles) == (True, {})
        assert (at.asked("channelkey"), at.server.refusals) == (1, ())


def test_a_false_host_destroys_no_key(tmp_path: Path) -> None:
    """It says that it knows none, refuses all that it is offered, and makes more: for a day."""
    with ground(tmp_path, "enforce") as at:
        at.begin()
        true = at.server.channel()
        at.server.set_keys({}, "")
        at.server.fault("attestation:status=403*1000")
        for _ in range(48):
            at.look_after(LONGEST_WAIT_S)
        assert at.asked("channelkey") > len(KEY_FILES)
        # It goes on refusing: an offer may be under way that the true host would take.
        at.server.set_keys(true.keys, true.latched)
        # Its clock has gone on as well, which is seen by a date that is not of the same second.
        at.server.set_clock(at.clock.ahead_s + PERIOD_S)
        at.look_after(PERIOD_S)
        at.wait_for(lambda: at.channel.state == "ours")
        assert at.goal_state()
        assert at.server.requests("goalstate")[-1].status == 200


def test_a_refused_request_has_the_channel_looked_at(tmp_path: Path) -> None:
    """Switched on within a period: the request that is refused has it found out, and passes when it is tried again."""
    with ground(tmp_path, "audit") as at:
        at.begin()
        at.server.set_channel("off")
        at.look_after(PERIOD_S)
        at.server.set_channel("enforce")
        assert at.goal_state()
        assert {refusal.rule for refusal in at.server.refusals} == {"signature-given"}
        assert (at.asked("channelstatus"), at.channel.state) == (3, "ours")


def test_refused_requests_have_it_looked_at_once_in_a_while(tmp_path: Path) -> None:
    with ground(tmp_path, "audit") as at:
        at.begin()
        for status in (401, 403):
            at.server.fault(f"goalstate:status={status}*3")
            at.goal_state()
            at.settle()
        assert at.asked("channelstatus") == 2
        at.look_after(SOON_S)
        assert at.asked("channelstatus") == 3
        at.look_after(PERIOD_S)


def test_a_status_that_can_not_be_used_changes_nothing(tmp_path: Path) -> None:
    with ground(tmp_path, "enforce") as at:
        at.begin()
        at.server.set_channel('text={"version":"9"}')
        at.look_after(PERIOD_S)
        assert "unusable: document: Object missing required field `authorizationScheme`" in at.channel.text
        assert at.goal_state()
        parsed = len(at.parsed)
        at.look_after(PERIOD_S)
        assert len(at.parsed) == parsed
        at.server.set_channel("text=")
        at.look_after(PERIOD_S)
        assert "unusable" not in at.channel.text


def test_one_that_can_not_be_used_at_first_leaves_it_unknown(tmp_path: Path) -> None:
    with ground(tmp_path, "audit", "text=[]") as at:
        assert at.begin().state == "unknown"
        assert not at.goal_state()
    with ground(tmp_path, "audit") as at:
        at.server.fault("channelstatus:status=500*1")
        assert at.begin().text == "not known; GET /secure-channel/status: HTTP status 500"
        at.look_after(PERIOD_S)
        assert at.channel.state == "ours"


def test_a_host_that_does_not_answer_is_looked_for_again(tmp_path: Path) -> None:
    with ground(tmp_path, "audit") as at:
        at.server.fault("channelstatus:reset*6")
        with pytest.raises(HostUnreachable):
            at.run(at.channel.begin())
        assert at.begin().state == "ours"


@pytest.mark.parametrize("ahead_s", [YEAR_S, -YEAR_S])
def test_a_clock_that_is_a_year_off_is_not_used(tmp_path: Path, ahead_s: float) -> None:
    with ground(tmp_path, "enforce") as at:
        at.server.set_clock(ahead_s)
        channel = at.begin()
        assert at.goal_state()
        assert at.server.refusals == ()
        where = "behind" if ahead_s > 0 else "ahead of"
        assert channel.text.endswith(f"; this machine's clock is 365 d {where} the host's, and is not used")


@pytest.mark.parametrize("words", ["enforce", "audit latch-other"])
def test_the_guest_proxy_agent_is_left_the_channel(tmp_path: Path, words: str) -> None:
    with ground(tmp_path, *words.split()) as at:
        at.holder = "/usr/sbin/azure-proxy-agent"
        assert "left to the Guest Proxy Agent (/usr/sbin/azure-proxy-agent)" in at.begin().text
        assert not at.goal_state()
        assert (at.asked("channelkey"), at.standing.troubles) == (0, {})


def test_a_key_that_comes_by_vtpm_is_not_asked_for(tmp_path: Path) -> None:
    with ground(tmp_path, "audit", "delivery=vtpm") as at:
        assert "delivered by vTPM" in at.begin().text
        assert at.asked("channelkey") == 0


def test_the_key_is_shown_to_nobody(tmp_path: Path) -> None:
    with ground(tmp_path, "enforce") as at:
        at.begin()
        (key,) = at.server.channel().keys.values()
        shown = f"{at.told} {at.said} {at.channel.text} {at.standing.troubles}"
        assert key.upper() not in shown.upper()
        assert at.redactor.clean(f"it is {key.upper()}.") == "it is [redacted]."
        assert not [record for record in at.server.records if key in f"{record.headers}{record.body}"]


def test_two_who_begin_at_once_latch_one_key(tmp_path: Path) -> None:
    with ground(tmp_path, "enforce") as at:
        at.run(at.loop.all(*(at.loop.start(name, at.channel.begin()) for name in ("one", "another"))))
        assert (at.asked("channelstatus"), at.asked("channelkey"), at.asked("attestation")) == (1, 1, 1)


def test_nobody_looks_when_the_agent_rests(tmp_path: Path) -> None:
    with ground(tmp_path, "audit") as at:
        at.begin().rest()
        at.pass_time(PERIOD_S)
        at.settle()
        at.pass_time(PERIOD_S)
        at.settle()
        assert at.asked("channelstatus") == 1


def test_an_attestation_whose_answer_is_lost_has_latched_all_the_same(tmp_path: Path) -> None:
    with ground(tmp_path, "enforce") as at:
        at.server.fault("attestation:truncate*1")
        assert at.begin().state == "unlatched"
        assert latched(at)
        at.look_after(PERIOD_S)
        assert (at.channel.state, at.asked("channelkey"), at.asked("attestation")) == ("ours", 1, 1)
