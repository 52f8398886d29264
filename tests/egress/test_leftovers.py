# SPDX-License-Identifier: Apache-2.0
"""What waagent leaves behind, made by the distribution's own waagent, is found, shown, and taken over."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.fabric.firewalld import SERVICE, firewalld_files
from tests.fabric.lab import PlacedFile
from tests.fabric.scene import AGENT
from tests.fabric.systemd_lab import SystemdLab
from tests.fabric.waiting import until
from tests.oracle.package import FOLDER, find

pytestmark = pytest.mark.root

UNIT = "walinuxagent-network-setup.service"
SCRIPT = "/var/lib/waagent/waagent-network-setup.py"
# Its own code, called as its start calls it: what lasts over boots, then the rules of now.
ITS_START = """
import os, sys
sys.path.insert(0, sys.argv[1])
sys.argv = ["/usr/sbin/waagent"]
os.makedirs("/var/lib/waagent", 0o700, exist_ok=True)
from azurelinuxagent.common.persist_firewall_rules import PersistFirewallRulesHandler
from azurelinuxagent.common.utils.networkutil import AddFirewallRules
PersistFirewallRulesHandler("168.63.129.16", 0).setup()
AddFirewallRules.add_iptables_rules("-w", "168.63.129.16", 0)
"""
# As versions that know nft make it (devices.md 6.2).
ITS_TABLE = b"""table ip walinuxagent {
    chain output {
        type filter hook output priority 0; policy accept;
        ip daddr 168.63.129.16 tcp dport != 53 meta skuid != 0 ct state invalid,new counter drop
    }
}
"""
SOMEBODYS = ("iptables", "-w", "-t", "security", "-A", "OUTPUT", "-d", "168.63.129.16", "-j", "ACCEPT")


@contextmanager
def left_behind(files: dict[str, bytes | PlacedFile] | None = None) -> Iterator[SystemdLab]:
    find()
    with SystemdLab({"/etc/waagent.conf": b"Firewall.Mode=enforce\n"} | (files or {})) as lab:
        if files:
            assert lab.systemctl("start", SERVICE).returncode == 0
            until("firewalld runs", lambda: lab.run(["firewall-cmd", "--state"]).returncode == 0)
        library = FOLDER / "unpacked/usr/lib/python3/dist-packages"
        done = lab.run(["/usr/bin/python3", "-W", "ignore", "-c", ITS_START, str(library)])
        assert done.returncode == 0, done.stderr
        yield lab


def firewall(lab: SystemdLab, action: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(lab.run([str(AGENT), "firewall", action, "--json"]).stdout)
    return told


def security(lab: SystemdLab) -> list[str]:
    return [line for line in lab.output("iptables", "-t", "security", "-S").splitlines() if line.startswith("-A")]


def test_its_rules_its_table_and_its_unit_go_and_nothing_else() -> None:
    with left_behind() as lab:
        assert lab.run(["nft", "-f", "-"], given=ITS_TABLE).returncode == 0
        lab.output(*SOMEBODYS)
        # Of the same name, but nobody knows whose.
        lab.write("/etc/systemd/system/waagent-network-setup.service", b"[Service]\nExecStart=/bin/true\n")
        assert lab.systemctl("is-enabled", UNIT).stdout.strip() == "enabled"
        left = firewall(lab, "plan")["left"]
        assert len(left) == 7
        assert firewall(lab, "show")["left"] == left
        said = firewall(lab, "apply")["said"]
        assert {f"removed, another agent left it: {name}" for name in left} <= {*said}
        assert security(lab) == ["-A OUTPUT -d 168.63.129.16/32 -j ACCEPT"]
        assert "walinuxagent" not in lab.output("nft", "list", "tables")
        assert lab.systemctl("cat", UNIT).returncode != 0
        assert lab.run(["test", "-e", SCRIPT]).returncode == 1
        assert lab.run(["test", "-s", "/etc/systemd/system/waagent-network-setup.service"]).returncode == 0
        assert firewall(lab, "plan")["left"] == []


def test_at_boot_its_rules_go_and_its_files_stay_for_the_hand() -> None:
    with left_behind() as lab:
        assert lab.run([str(AGENT), "firewall", "apply", "--boot"]).returncode == 0
        assert security(lab) == []
        assert lab.run(["test", "-e", SCRIPT]).returncode == 0


def test_where_usr_is_read_only_its_unit_is_masked() -> None:
    with left_behind() as lab:
        for options in (("--bind", "/usr", "/usr"), ("-o", "remount,bind,ro", "/usr")):
            lab.output("mount", *options)
        said = firewall(lab, "apply")["said"]
        assert [text for text in said if f"masked by /etc/systemd/system/{UNIT}" in text]
        assert lab.systemctl("is-enabled", UNIT).stdout.strip() == "masked"
        assert firewall(lab, "show")["left"] == []


def test_what_it_told_firewalld_to_load_for_ever_is_untold() -> None:
    with left_behind(firewalld_files()) as lab:
        kept = ("firewall-cmd", "--permanent", "--direct")
        lab.output(*kept, "--add-passthrough", "ipv4", *SOMEBODYS[2:])
        assert len(lab.output(*kept, "--get-all-passthroughs").splitlines()) == 4
        left = firewall(lab, "show")["left"]
        assert len([name for name in left if name.startswith("firewalld: ")]) == 3
        firewall(lab, "apply")
        assert lab.output(*kept, "--get-all-passthroughs").splitlines() == [f"ipv4 {' '.join(SOMEBODYS[2:])}"]
        lab.output("firewall-cmd", "--reload")
        assert security(lab) == ["-A OUTPUT -d 168.63.129.16/32 -j ACCEPT"]
        assert firewall(lab, "show")["left"] == []
