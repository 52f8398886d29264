# SPDX-License-Identifier: Apache-2.0
"""Who provisions: every word of the option, with cloud-init and without. What the marker says of an earlier start."""

import pytest

from supervisor.coexistence import choose
from supervisor.marker import Mark, look
from supervisor.records import State
from supervisor.vm_identity import VmId

LINK = "/etc/systemd/system/cloud-init.target.wants/cloud-init-local.service"
ID, ANOTHER = "D4C3B2A1-F6E5-1807-293A-4B5C6D7E8F90", "7D0E2B18-93C4-4A5F-8E61-0B9F3D2C5A74"
OTHER_ORDER = "a1b2c3d4-e5f6-0718-293a-4b5c6d7e8f90"


@pytest.mark.parametrize(
    ("agent", "link", "who"),
    [
        ("auto", "", "this agent"),
        ("auto", LINK, "cloud-init"),
        ("waagent", "", "this agent"),
        ("cloud-init", "", "cloud-init"),
        ("cloud-init", LINK, "cloud-init"),
        ("disabled", "", "others"),
        ("disabled", LINK, "others"),
        ("ignition", LINK, "others"),
        ("Auto", "", "others"),
    ],
)
def test_who_provisions(agent: str, link: str, who: str) -> None:
    choice = choose(True, agent, link)
    assert (choice.who, choice.conflict) == (who, "")
    assert choice.why.startswith(f"Provisioning.Agent is {agent}")
    switched_off = choose(False, agent, link)
    assert (switched_off.who, switched_off.why) == ("others", "Provisioning.Enabled is n")


def test_this_agent_and_cloud_init_together_are_a_conflict() -> None:
    choice = choose(True, "waagent", LINK)
    assert choice.who == "this agent"
    assert "Provisioning.Agent is waagent" in choice.conflict
    assert LINK in choice.conflict


HERE, UNKNOWN = VmId(ID, boot="b"), VmId("", "no table", "b")
FINISHED, READY = State(begun=ID, finished=ID), State(begun=ID, finished=ID, ready=True)
FORMER = State(begun=ANOTHER, finished=ANOTHER, ready=True)


@pytest.mark.parametrize(
    ("marker", "vm_id", "state", "mark"),
    [
        (None, HERE, State(), Mark.NEW),
        (None, HERE, State(begun=ID), Mark.NEW),
        (None, HERE, FORMER, Mark.NEW),
        # Killed before the marker was written, and removed by hand.
        (None, HERE, FINISHED, Mark.DONE),
        (None, HERE, READY, Mark.NEW),
        (ID, HERE, State(), Mark.DONE),
        (ID.lower(), HERE, READY, Mark.DONE),
        (OTHER_ORDER, HERE, READY, Mark.DONE),
        ("", HERE, State(), Mark.ADOPTED),
        (" \n", HERE, READY, Mark.ADOPTED),
        (ANOTHER, HERE, State(), Mark.MOVED),
        (ANOTHER, HERE, FORMER, Mark.MOVED),
        ("unknown", HERE, State(), Mark.MOVED),
        # Cleaned up and killed before the marker was written anew; and a marker that somebody else has written since.
        (ANOTHER, HERE, FINISHED, Mark.DONE),
        (ANOTHER, HERE, READY, Mark.MOVED),
        (ANOTHER, UNKNOWN, State(), Mark.DONE),
        ("unknown", UNKNOWN, State(), Mark.DONE),
        (None, UNKNOWN, State(begun="unknown a", finished="unknown a", ready=True), Mark.NEW),
    ],
)
def test_what_marker_and_journal_say_together(marker: str | None, vm_id: VmId, state: State, mark: Mark) -> None:
    assert look(marker, vm_id, state) is mark
