# SPDX-License-Identifier: Apache-2.0
"""The committer that removes what another VM left: all of it, nothing beside it, and a second time nothing."""

import subprocess
from pathlib import Path

import pytest

from ipc.errors import CommitError
from ipc.messages import ClearFormerVm
from policy.load import load
from tests.unit.committers.apart import CLONE_NEWNS, apart
from tests.unit.committers.programs_here import perform
from workers.committers import former_vm
from workers.committers.former_vm import clear_former_vm

ORDER = ClearFormerVm("this VM")
GOES = (
    "var/lib/dhcp/dhclient.eth0.leases",
    "var/lib/dhcp/old/dhclient.leases",
    "var/lib/dhclient/dhclient.leases",
    "var/lib/dhcpcd/eth0.lease",
    "var/db/dhclient.leases.eth0",
    "var/lib/NetworkManager/dhclient-1234-eth0.lease",
    "run/systemd/netif/leases/2",
    "etc/systemd/system/waagent-network-setup.service",
    "usr/lib/systemd/system/walinuxagent-network-setup.service",
    "usr/lib/systemd/system/walinuxagent.service.d/10-Slice.conf",
    "usr/lib/systemd/system/waagent.service.d/12-CPUQuota.conf",
    "lib/systemd/system/azure-walinuxagent-logcollector.slice",
)
STAYS = (
    "var/lib/NetworkManager/NetworkManager.state",
    "var/db/services.db",
    "run/systemd/netif/links/2",
    "usr/lib/systemd/system/walinuxagent.service",
    "usr/lib/systemd/system/walinuxagent.service.d/image.conf",
    "usr/lib/systemd/system/azure.slice",
    "etc/systemd/system/agent-supervisor.service.d/10-Slice.conf",
    "var/lib/waagent/ovf-env.xml",
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in (*GOES, *STAYS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_all_of_it_goes_and_nothing_else(root: Path) -> None:
    committed = perform(clear_former_vm, ORDER, root)
    assert files(root) == set(STAYS)
    # The folder that was in one of them, too.
    assert committed.fact == f"{len(GOES) + 1} files removed"
    assert {change.path.lstrip("/") for change in committed.changes} == {
        "var/lib/dhcp" if "/dhcp/old" in name else str(Path(name).parent) for name in GOES
    }
    again = perform(clear_former_vm, ORDER, root)
    assert (again.changes, again.fact) == ((), "0 files removed")


def test_a_link_in_the_place_of_a_folder_leads_nowhere(root: Path) -> None:
    target = root / "var/lib/waagent"
    leases = root / "run/systemd/netif/leases"
    (leases / "2").unlink()
    leases.rmdir()
    leases.symlink_to(target)
    (root / "var/lib/dhcp/away").symlink_to(target)
    perform(clear_former_vm, ORDER, root)
    assert files(root) == set(STAYS)


@pytest.mark.root
def test_a_unit_of_an_image_that_can_not_be_changed_stays_and_is_told(root: Path) -> None:
    def body() -> None:
        subprocess.run(["mount", "--bind", f"{root}/usr", f"{root}/usr"], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", f"{root}/usr"], check=True)
        fact = perform(clear_former_vm, ORDER, root).fact
        assert "/usr/lib/systemd/system/walinuxagent-network-setup.service stays" in fact
        assert "read-only" in fact

    apart(body, namespaces=CLONE_NEWNS, system_copy=False)


def test_a_failure_tells_what_it_is_about_and_that_something_is_gone(root: Path) -> None:
    (root / "var/lib/dhcpcd").joinpath(*["deep"] * 20).mkdir(parents=True)
    with pytest.raises(CommitError, match=r"/var/lib/dhcpcd/deep/.*: more than 16 folders deep") as failure:
        perform(clear_former_vm, ORDER, root)
    assert failure.value.changed


def test_every_folder_that_it_looks_into_is_in_its_policy() -> None:
    granted = next(each.profile for each in load().programs if each.profile.kind == "former-vm").paths
    assert {grant.access for grant in granted} == {"remove"}
    looked_into = {*former_vm.EMPTIED, *former_vm.LEASES, *former_vm.UNIT_FOLDERS}
    assert {grant.path for grant in granted} == looked_into
