# SPDX-License-Identifier: Apache-2.0
"""Which rule the supervisor wants, and who else is let through: by configuration, marker and cgroups."""

from pathlib import Path

import pytest

from supervisor.config import parse
from supervisor.egress.guests import SLICE, Guests
from supervisor.egress.wanted import own_cgroup, wanted

ADDRESS = "168.63.129.16"


@pytest.mark.parametrize(
    ("text", "cgroup"),
    [
        ("0::/system.slice/agent-supervisor.service/supervisor\n", "system.slice/agent-supervisor.service/supervisor"),
        ("12:pids:/x\n3:cpu,cpuacct:/y\n0::/unified/supervisor\n", "unified/supervisor"),
        ("0::/\n", ""),
        ("4:memory:/a\n", ""),
        ("0::/../elsewhere\n", ""),
        ('0::/a"; accept #\n', ""),
        ("0::/a b\n", ""),
    ],
)
def test_the_cgroup_that_a_rule_may_name(text: str, cgroup: str) -> None:
    assert own_cgroup(text) == cgroup


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("", "enforce"),
        ("OS.EnableFirewall=n\n", "off"),
        ("Firewall.Mode=off\n", "off"),
        ("Firewall.Mode=observe\n", "observe"),
        ("OS.EnableFirewall=n\nFirewall.Mode=observe\n", "off"),
    ],
)
def test_the_mode_that_the_options_ask_for(tmp_path: Path, text: str, mode: str) -> None:
    own = tmp_path / "proc/self/cgroup"
    own.parent.mkdir(parents=True)
    own.write_text("0::/agent/supervisor\n")
    asked = wanted(parse(text).config, ADDRESS, 61183, str(tmp_path))
    assert (asked.mode, asked.cgroup, asked.uid, asked.period_s) == (mode, "agent/supervisor", 61183, 300.0)


class TestGuests:
    def guests(self, root: Path, agent: str, *, populated: bool | None, provisioned: bool = False) -> Guests:
        """`populated`: whether the slice has processes; None where it is not there."""
        if populated is not None:
            folder = root / "sys/fs/cgroup/unified" / SLICE
            folder.mkdir(parents=True)
            (folder / "cgroup.events").write_text(f"populated {int(populated)}\nfrozen 0\n")
        if provisioned:
            (root / "lib").mkdir()
            (root / "lib/provisioned").write_text("x")
        return Guests(parse(f"Provisioning.Agent={agent}\n").config, "/lib", str(root))

    def test_none_where_this_agent_provisions(self, tmp_path: Path) -> None:
        assert not self.guests(tmp_path, "waagent", populated=True).are_admitted

    @pytest.mark.parametrize("agent", ["cloud-init", "azure-init"])
    def test_the_slice_of_whoever_provisions(self, tmp_path: Path, agent: str) -> None:
        guests = self.guests(tmp_path, agent, populated=True)
        assert (guests.cgroups, guests.root) == ((SLICE,), False)
        assert guests.are_at_work == (agent == "azure-init")
        guests.dismiss()
        assert (guests.are_admitted, guests.are_at_work, guests.cgroups) == (False, False, ())

    @pytest.mark.parametrize(("agent", "root"), [("cloud-init", True), ("azure-init", False)])
    def test_root_only_for_a_cloud_init_without_our_units(self, tmp_path: Path, agent: str, *, root: bool) -> None:
        guests = self.guests(tmp_path, agent, populated=None)
        assert (guests.cgroups, guests.root) == ((), root)

    def test_nobody_in_a_vm_that_is_provisioned(self, tmp_path: Path) -> None:
        assert not self.guests(tmp_path, "cloud-init", populated=False, provisioned=True).are_admitted

    def test_one_that_is_at_work_when_this_process_is_started_again(self, tmp_path: Path) -> None:
        guests = self.guests(tmp_path, "azure-init", populated=True, provisioned=True)
        assert (guests.are_admitted, guests.are_at_work) == (True, True)
        (tmp_path / "sys/fs/cgroup/unified" / SLICE / "cgroup.events").write_text("populated 0\n")
        assert not guests.are_at_work
