# SPDX-License-Identifier: Apache-2.0
"""A contained command's warden is found wherever the agent is installed; without being shown it, it is not."""

import pytest

from tests.fabric.systemd_lab import SystemdLab
from workers.committers.handler_start import CONTAINED, warden_there

pytestmark = [pytest.mark.root, pytest.mark.timeout(90)]

PLACES = ("/tmp/agent", "/var/tmp/agent", "/home/some/agent", "/root/agent", "/opt/agent")
HIDDEN = PLACES[:-1]


def test_an_installation_is_seen_read_only_wherever_it_lies() -> None:
    with SystemdLab() as lab:
        for place in PLACES:
            lab.output("mkdir", "-p", place)
            lab.path(f"{place}/program").write_text("#!/bin/sh\nif touch $0; then exit 9; fi\n")
            lab.output("chmod", "755", f"{place}/program")
        for place in PLACES:
            shown = tuple(warden_there({place}))
            assert bool(shown) == (place in HIDDEN)
            assert starts(lab, place, *CONTAINED, *shown) == 0
        for place in HIDDEN:
            assert starts(lab, place, *CONTAINED) == 203
        assert tuple(warden_there({"/usr", "/tmporary"})) == ()


def starts(lab: SystemdLab, place: str, *properties: str) -> int:
    """The status of the unit that runs the program there."""
    told = [f"--property={each}" for each in properties]
    return lab.run(["systemd-run", "--wait", "--quiet", "--collect", *told, f"{place}/program"]).returncode
