# SPDX-License-Identifier: Apache-2.0
"""Others' reloads, with the agent running under systemd: nftables.service's flush and all that firewalld does."""

import json
from collections import ChainMap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from policy.egress import iptables
from tests.fabric.boot_unit import ANYBODY, boot_files
from tests.fabric.firewalld import SERVICE, firewalld_files
from tests.fabric.lab import PlacedFile
from tests.fabric.scene import AGENT, CONFIG, Scene, Wanted
from tests.fabric.systemd_lab import UNIT, SystemdLab
from tests.fabric.waiting import until
from tests.flow.test_systemd import first_boot

pytestmark = pytest.mark.root

NO_NFT = {"/usr/sbin/nft": PlacedFile(b"", 0o644)}


@contextmanager
def guarded(config: bytes, *more: Mapping[str, bytes | PlacedFile]) -> Iterator[tuple[SystemdLab, Scene]]:
    """Provisioned, and the rule in force by the supervisor of after that."""
    files = dict(ChainMap(*(dict(each) for each in more), boot_files(config)))
    with first_boot(Wanted(), extra=files) as (lab, scene):
        # Of the supervisor that has provisioned, and of the one that goes on.
        until("the rule of both", lambda: lab.journal(UNIT).count("rule for ports") >= 2, every_s=0.2)
        until("the rule is in force", lambda: of_agent(lab, "mechanism"), every_s=0.2)
        yield lab, scene


def shown(lab: SystemdLab) -> dict[str, Any]:
    done = lab.run([str(AGENT), "firewall", "show", "--json"])
    told: dict[str, Any] = json.loads(done.stdout)
    return told | {"status": done.returncode}


def of_agent(lab: SystemdLab, what: str) -> Any:
    """None while it does not answer."""
    return (shown(lab)["agent"] or {}).get(what)


def put_back(lab: SystemdLab) -> int:
    return int(of_agent(lab, "put_back") or 0)


def is_refused(lab: SystemdLab) -> bool:
    return lab.systemctl("start", ANYBODY).returncode != 0


def change(lab: SystemdLab, *systemctl: str) -> None:
    """Something that flushes every table; it returns when ours is back."""
    before = put_back(lab)
    done = lab.systemctl(*systemctl)
    assert done.returncode == 0, done.stderr
    until("the rule is put back", lambda: put_back(lab) > before, every_s=0.2)
    assert "nft" in until("the agent tells by whom", lambda: of_agent(lab, "last_by"), every_s=0.2)
    assert is_refused(lab)


@pytest.mark.timeout(120)
def test_a_flush_by_nftables_and_every_reload_of_firewalld_are_survived() -> None:
    with guarded(CONFIG + b"Extensions.GoalStatePeriod=1\n", firewalld_files()) as (lab, scene):
        assert shown(lab)["status"] == 0
        assert is_refused(lab)
        change(lab, "reload", "nftables.service")
        # firewalld and nftables.service exclude each other: the one is stopped, with a flush, when the other starts.
        change(lab, "start", SERVICE)
        until("firewalld has its rules", lambda: "table inet firewalld" in lab.output("nft", "list", "tables"))
        before = put_back(lab)
        for reload in ("--reload", "--complete-reload"):
            assert lab.output("firewall-cmd", reload).strip() == "success"
            assert is_refused(lab)
        assert lab.systemctl("restart", SERVICE).returncode == 0
        assert is_refused(lab)
        assert put_back(lab) == before, "firewalld touched a table that is not its own"
        told = shown(lab)
        assert told["status"] == 0
        assert [each["name"] for each in told["beside"]] == [SERVICE]
        # The supervisor was let through all the time.
        requests = len(scene.records())
        until("the agent asks the host", lambda: len(scene.records()) > requests)
        assert lab.run([str(AGENT), "firewall", "plan"]).returncode == 0


def test_by_iptables_a_reload_of_firewalld_is_mended_at_once() -> None:
    with guarded(CONFIG, NO_NFT, firewalld_files()) as (lab, _):
        assert of_agent(lab, "mechanism") == "iptables"
        assert is_refused(lab)
        assert lab.systemctl("start", SERVICE).returncode == 0
        until("firewalld runs", lambda: lab.run(["firewall-cmd", "--state"]).returncode == 0, every_s=0.2)
        # Somebody's own rule, which shows that everything was flushed.
        lab.output("iptables", "-w", "-A", "OUTPUT", "-d", "192.0.2.9", "-j", "DROP")
        lab.output("firewall-cmd", "--reload")
        assert "192.0.2.9" not in lab.output("iptables", "-w", "-S")
        # A flush leaves the empty chains; what leads into ours is loaded together with what is in it.
        until("the rule is put back", lambda: iptables.ours(lab.output("iptables", "-w", "-S", "OUTPUT")))
        assert is_refused(lab)


def test_the_command_has_the_running_agent_load_it_anew() -> None:
    with guarded(CONFIG) as (lab, _):
        since = shown(lab)["agent"]["since"]
        applied = lab.run([str(AGENT), "firewall", "apply", "--json"])
        assert applied.returncode == 0, applied.stderr
        told = json.loads(applied.stdout)
        assert (told["in_force"], told["by_agent"], told["mechanism"]) == (True, True, "nft-cgroup")
        assert shown(lab)["agent"]["since"] > since
        # Asked for: nobody has touched it.
        assert put_back(lab) == 0
        removed = lab.run([str(AGENT), "firewall", "remove"])
        assert "the agent runs and puts it back" in removed.stdout
        until("it is back", lambda: put_back(lab) == 1, every_s=0.2)
        assert is_refused(lab)
        # Not a worker, but one of the group that may read: it may not control.
        lab.output("groupadd", "--force", "agent-supervisor")
        asked = ["setpriv", "--reuid=1000", "--clear-groups", str(AGENT), "firewall", "apply"]
        assert lab.run(asked).returncode == 4
