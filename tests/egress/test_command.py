# SPDX-License-Identifier: Apache-2.0
"""`agent-supervisor firewall` on machines of several kinds, without the agent: what it plans, loads, shows and says."""

import json
import subprocess
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from supervisor.cli.firewall_wish import SOCKET_UID
from tests.fabric.lab import PROJECT, Lab, PlacedFile
from tests.fabric.scene import AGENT

NO_NFT = {"/usr/sbin/nft": PlacedFile(b"", 0o644)}
NO_IPTABLES = {f"/usr/sbin/{name}": PlacedFile(b"", 0o644) for name in ("iptables", "iptables-restore")}
# That of a firewalld that does nothing else; without systemd its table is all that tells of it.
FIREWALLDS = b"table inet firewalld {\n chain filter_INPUT {\n }\n}\n"


def machine(config: str = "Provisioning.Agent=waagent\n", *more: Mapping[str, PlacedFile]) -> Lab:
    files: dict[str, bytes | PlacedFile] = {"/etc/waagent.conf": config.encode()}
    for each in more:
        files |= each
    return Lab(files)


def firewall(lab: Lab, *words: str, before: Sequence[str] = (), **options: Any) -> "subprocess.CompletedProcess[str]":
    return lab.run([*before, str(AGENT), "firewall", *words], **options)


def told(lab: Lab, *words: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(firewall(lab, *words, "--json").stdout)
    return answer


def reaches(lab: Lab, address: str = "127.63.129.16") -> bool:
    """Whether a root shell gets a connection to somebody who listens there."""
    listener = f"import socket; s = socket.create_server(({address!r}, 80)); print(1, flush=True); input()"
    with lab.popen(["python3", "-c", listener], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as listening:
        assert listening.stdout is not None
        assert listening.stdout.readline() == b"1\n"
        done = lab.run(["bash", "-c", f"exec 3<>/dev/tcp/{address}/80"])
        listening.communicate(b"\n")
    assert done.returncode == 0 or "refused" in done.stderr
    return done.returncode == 0


@pytest.mark.root
@pytest.mark.parametrize(
    ("mechanism", "missing", "programs"),
    [("nft-cgroup", {}, "nft"), ("iptables", NO_NFT, "iptables-restore ebtables"), ("nft-cgroup", NO_IPTABLES, "nft")],
)
def test_what_is_planned_is_what_is_loaded(mechanism: str, missing: dict[str, PlacedFile], programs: str) -> None:
    with machine("Provisioning.Agent=waagent\n", missing) as lab:
        plan = told(lab, "plan", "--boot")
        assert (plan["mode"], plan["mechanism"], plan["admits"]) == ("enforce", mechanism, "nobody")
        assert [command.split()[0] for command in plan["rules"]] == programs.split()
        assert plan["changes"]
        assert firewall(lab, "plan", "--boot").returncode == 1
        assert reaches(lab, "168.63.129.16")
        applied = told(lab, "apply")
        assert (applied["in_force"], applied["mechanism"], applied["by_agent"]) == (True, mechanism, False)
        assert not reaches(lab, "168.63.129.16")
        again = firewall(lab, "plan", "--boot")
        assert (again.returncode, "nothing would change" in again.stdout) == (0, True)
        assert told(lab, "show")["counters"]["refused"] >= 1
        # The rule of the agent itself is the same but for whom it admits.
        admits = told(lab, "plan")["admits"]
        assert ("uid" if mechanism == "iptables" else "system.slice/agent-supervisor.service") in admits
        assert ("a chain of ebtables" in told(lab, "show")["loaded"]) == (mechanism == "iptables")
        assert firewall(lab, "remove").returncode == 0
        assert firewall(lab, "show").returncode == 1
        assert reaches(lab, "168.63.129.16")
        assert "AGENT-SUPERVISOR" not in lab.output("ebtables", "-L")


@pytest.mark.root
def test_whatever_differs_from_the_plan_is_shown() -> None:
    with machine() as lab:
        assert firewall(lab, "apply").returncode == 0
        lab.output("nft", "insert", "rule", "ip", "agent_supervisor", "leaving", "meta", "skuid", "1000", "accept")
        changes = told(lab, "plan", "--boot")["changes"]
        assert [line for line in changes if line[0] in "+-"] == ["-\t\tmeta skuid 1000 accept"]
        assert firewall(lab, "apply").returncode == 0
        assert told(lab, "plan", "--boot")["changes"] == []


@pytest.mark.root
def test_beside_firewalld_its_table_is_left_alone() -> None:
    with machine() as lab:
        assert lab.run(["nft", "-f", "-"], given=FIREWALLDS).returncode == 0
        assert [each["name"] for each in told(lab, "plan")["beside"]] == ["firewalld.service"]
        assert firewall(lab, "apply").returncode == 0
        assert firewall(lab, "remove").returncode == 0
        assert lab.output("nft", "list", "tables") == "table inet firewalld\n"


@pytest.mark.root
def test_a_mechanism_that_does_not_refuse_gives_way_to_the_next() -> None:
    with machine("Provisioning.Agent=disabled\n") as lab:
        # From within the cgroup that the rule lets through, nobody is refused by it; a uid tells no cgroup.
        slice_ = "azureprovisioning.slice"
        done = firewall(lab, "apply", "--boot", cgroup=slice_)
        assert done.returncode == 0
        assert "in force by nft-uid" in done.stdout
        assert not reaches(lab)


@pytest.mark.root
def test_without_cgroup2_it_is_by_uid() -> None:
    with machine() as lab:
        lab.output("umount", "/sys/fs/cgroup/unified")
        plan = told(lab, "plan")
        assert (plan["mechanism"], f"uid {SOCKET_UID}" in plan["admits"]) == ("nft-uid", True)
        assert "no cgroup2 is mounted" in plan["why"]
        assert told(lab, "apply")["mechanism"] == "nft-uid"
        assert not reaches(lab)


@pytest.mark.root
def test_observed_nobody_is_refused_and_everybody_counted() -> None:
    saved = {"/var/lib/waagent/WireServerEndpoint": PlacedFile(b"192.0.2.7")}
    with machine("Firewall.Mode=observe\n", saved) as lab:
        assert "192.0.2.7 . 32526" in told(lab, "plan")["rules"]["nft -f -"]
        applied = firewall(lab, "apply")
        assert (applied.returncode, "nobody is refused, and an outsider was seen" in applied.stdout) == (0, True)
        before = told(lab, "show")["counters"]["tried"]
        assert reaches(lab)
        assert told(lab, "show")["counters"]["tried"] > before


@pytest.mark.root
def test_who_may_not_or_can_not_is_told_so() -> None:
    nobody = ("setpriv", "--reuid=1000", "--clear-groups")
    with machine("Provisioning.Agent=waagent\n", NO_NFT, NO_IPTABLES) as lab:
        none = firewall(lab, "plan")
        assert (none.returncode, "neither nft nor iptables is installed" in none.stderr) == (1, True)
        assert "neither nft nor iptables is installed" in firewall(lab, "apply").stdout
    with machine() as lab:
        plan = firewall(lab, "plan", before=nobody)
        assert (plan.returncode, "only root can see" in plan.stdout) == (0, True)
        guess = "the cgroup system.slice/agent-supervisor.service/supervisor is guessed, as systemd's unit has it"
        assert plan.stderr == f"agent-supervisor: {guess}; the agent does not tell its own: it does not run\n"
        assert firewall(lab, "plan", "--boot", before=nobody).stderr == ""
        assert "agent_supervisor" in plan.stdout
        for action in ("apply", "remove"):
            done = firewall(lab, action, before=nobody)
            assert (done.returncode, "takes root" in done.stderr) == (4, True)
        assert firewall(lab, "show", "--config", "/etc/none.conf").returncode == 2
        assert firewall(lab, "show", "--nonsense").returncode == 2


def test_the_uid_is_that_of_the_policy() -> None:
    profile = tomllib.loads((PROJECT / "policy/profiles/wire-socket.toml").read_text())
    assert profile["identity"]["uid"] == SOCKET_UID


@pytest.mark.root
def test_a_table_of_our_name_that_refuses_nobody_is_not_the_rule() -> None:
    with machine() as lab:
        assert firewall(lab, "apply").returncode == 0
        assert told(lab, "show")["as_wanted"] is True
        lab.output("nft", "flush table ip agent_supervisor")
        shown = firewall(lab, "show")
        assert (shown.returncode, told(lab, "show")["as_wanted"]) == (1, False)
        assert "table ip agent_supervisor" in shown.stdout
        lab.write("/etc/waagent.conf", b"Provisioning.Agent=waagent\nFirewall.Mode=observe\n")
        assert firewall(lab, "apply").returncode == 0
        assert told(lab, "show")["as_wanted"] is True
        lab.write("/etc/waagent.conf", b"Provisioning.Agent=waagent\n")
        assert told(lab, "show")["as_wanted"] is False
