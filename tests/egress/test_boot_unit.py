# SPDX-License-Identifier: Apache-2.0
"""The boot unit under systemd: in force before the network, for nobody but those who provision in the agent's place."""

import shutil
import subprocess
from pathlib import Path
from typing import Literal

import pytest

from tests.fabric.boot_unit import ANYBODY, BOOT_UNIT, CLOUD_INIT, NOTED, PACKAGED, boot_files
from tests.fabric.lab import PlacedFile
from tests.fabric.scene import AGENT, Scene
from tests.fabric.systemd_lab import SystemdLab

AUTO = b"Provisioning.Agent=auto\n"
# A file that can't be run is none that is there.
NO_NFT = {"/usr/sbin/nft": PlacedFile(b"", 0o644)}
# The iptables of before nf_tables: a lock in /run, and a raw socket to the kernel.
LEGACY = {
    f"/usr/sbin/{name}": PlacedFile(f'#!/bin/sh\nexec xtables-legacy-multi {name} "$@"\n'.encode(), 0o755)
    for name in ("iptables", "iptables-restore")
}


def firewall(lab: SystemdLab, *words: str) -> "subprocess.CompletedProcess[str]":
    return lab.run([str(AGENT), "firewall", *words])


def reaches(lab: SystemdLab, unit: str) -> bool:
    return lab.systemctl("start", unit).returncode == 0


@pytest.mark.root
@pytest.mark.parametrize("cgroup", ["host", "v2"])
def test_before_the_network_it_is_in_force_and_admits_cloud_init_alone(cgroup: Literal["host", "v2"]) -> None:
    with SystemdLab(boot_files(AUTO, cloud_init=True), cgroup=cgroup) as lab:
        assert lab.show(BOOT_UNIT, "ActiveState") == {"ActiveState": "active"}, lab.journal(BOOT_UNIT)
        # nftables.service has loaded its own by then, and flushed everything before.
        assert {"table ip agent_supervisor", "table inet filter"} <= {*lab.read(NOTED).decode().splitlines()}
        Scene(lab).start_host()
        assert reaches(lab, CLOUD_INIT), lab.journal(CLOUD_INIT)
        assert not reaches(lab, ANYBODY)
        assert "Connection refused" in lab.journal(ANYBODY)
        ask = ["bash", "/usr/local/lib/ask", "user"]
        assert lab.run(["setpriv", "--reuid=1000", "--clear-groups", *ask]).returncode != 0
        assert firewall(lab, "plan", "--boot").returncode == 0, firewall(lab, "plan", "--boot").stdout
        assert "of guests" in firewall(lab, "show").stdout
        # Without the rule both get in.
        assert firewall(lab, "remove").returncode == 0
        assert reaches(lab, ANYBODY), lab.journal(ANYBODY)


@pytest.mark.root
def test_where_this_agent_provisions_nobody_is_admitted() -> None:
    with SystemdLab(boot_files(b"Provisioning.Agent=waagent\n")) as lab:
        Scene(lab).start_host()
        assert "let through: nobody" in lab.journal(BOOT_UNIT)
        assert not reaches(lab, CLOUD_INIT)
        assert not reaches(lab, ANYBODY)


@pytest.mark.root
@pytest.mark.parametrize(("cloud_init", "iptables"), [(True, {}), (False, {}), (False, LEGACY)])
def test_without_nft_root_is_admitted_as_long_as_cloud_init_is_to_provision(
    cloud_init: bool, iptables: dict[str, PlacedFile]
) -> None:
    with SystemdLab({**boot_files(AUTO, cloud_init=cloud_init), **NO_NFT, **iptables}) as lab:
        Scene(lab).start_host()
        told = lab.journal(BOOT_UNIT)
        assert "in force by iptables, enforce" in told
        assert ("root, as long as others provision" in told) == cloud_init
        assert reaches(lab, ANYBODY) == cloud_init
        ask = ["setpriv", "--reuid=1000", "--clear-groups", "bash", "-c", "exec 3<>/dev/tcp/168.63.129.16/80"]
        assert "refused" in lab.run(ask).stderr


@pytest.mark.root
@pytest.mark.parametrize("setting", [b"OS.EnableFirewall=n\n", b"Firewall.Mode=off\n"])
def test_switched_off_it_loads_nothing(setting: bytes) -> None:
    with SystemdLab(boot_files(AUTO + setting)) as lab:
        assert lab.show(BOOT_UNIT, "ActiveState") == {"ActiveState": "active"}, (
            lab.journal(BOOT_UNIT) + lab.systemctl("status", BOOT_UNIT).stdout
        )
        assert "agent_supervisor" not in lab.output("nft", "list", "tables")
        assert firewall(lab, "show").returncode == 0


def verified(folder: Path, after: str = "") -> list[str]:
    """What systemd complains about in our units, put into `folder` beside such as cloud-init's; `after` is another unit
    that the boot unit waits for."""
    shutil.copytree(PACKAGED, folder, dirs_exist_ok=True)
    for unit in folder.glob("*.service"):
        unit.write_text(unit.read_text().replace("/usr/lib/agent-supervisor/bin/agent-supervisor", str(AGENT)))
    for drop_in in folder.glob("*.service.d"):
        # The first stage comes before all that is started late.
        early = "DefaultDependencies=no\nBefore=sysinit.target network-pre.target\n" * ("local" in drop_in.name)
        text = f"[Unit]\n{early}[Service]\nType=oneshot\nExecStart=/bin/true\n[Install]\nWantedBy=sysinit.target\n"
        (folder / drop_in.stem).write_text(text)
    (folder / "sysinit.target.d").mkdir()
    (folder / "sysinit.target.d/wanted.conf").write_text(f"[Unit]\nWants={BOOT_UNIT} {CLOUD_INIT}\n")
    (folder / "late.service").write_text("[Service]\nType=oneshot\nExecStart=/bin/true\n")
    if after:
        (folder / f"{BOOT_UNIT}.d").mkdir()
        (folder / f"{BOOT_UNIT}.d/after.conf").write_text(f"[Unit]\nWants={after}\nAfter={after}\n")
    units = sorted(str(path) for path in folder.iterdir() if path.is_file())
    environment = {"PATH": "/usr/bin:/bin", "SYSTEMD_UNIT_PATH": f"{folder}:"}
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], env=environment, capture_output=True, text=True, check=False
    )
    lines = done.stderr.splitlines()
    return [line for line in lines if str(folder) in line or BOOT_UNIT in line or "cycle" in line]


def test_our_units_are_what_systemd_understands(tmp_path: Path) -> None:
    assert verified(tmp_path) == []
    scored = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=25", "--no-pager", str(tmp_path / BOOT_UNIT)],
        env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert scored.returncode == 0, scored.stdout


def test_to_wait_for_a_service_that_is_started_late_would_be_a_circle(tmp_path: Path) -> None:
    """Such as firewalld: that is why the boot unit does not."""
    assert any("cycle" in line for line in verified(tmp_path, "late.service"))
