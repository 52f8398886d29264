# SPDX-License-Identifier: Apache-2.0
"""Committer of the clean-up on a disk that was another VM's: DHCP leases, and units that the reference wrote there.

Root, with the right to pass over file modes: leases belong to the DHCP client's own account (provisioning.md 10.1,
steps 3, 10 and 11). It unlinks, never through a link, and writes nothing.
"""

import errno
from collections.abc import Callable, Iterator

from ipc import removal
from ipc.channel import Channel
from ipc.messages import ClearFormerVm
from workers.committers.commit import Workplace, serve

EMPTIED = ("/var/lib/dhclient", "/var/lib/dhcpcd", "/var/lib/dhcp")
LEASES = {
    "/var/db": ("dhclient.leases.*",),
    "/var/lib/NetworkManager": ("dhclient-*.lease",),
    "/run/systemd/netif/leases": ("*",),
}
# What the reference called its service, and where it wrote units; what the image itself brings has other names.
SERVICES = ("walinuxagent", "waagent", "azurelinuxagent")
UNIT_FOLDERS = ("/etc/systemd/system", "/lib/systemd/system", "/usr/lib/systemd/system")
UNITS = (*(f"{service}-network-setup.service" for service in SERVICES), "azure-walinuxagent-logcollector.slice")
DROP_INS = ("10-Slice.conf", "11-CPUAccounting.conf", "12-CPUQuota.conf", "13-MemoryAccounting.conf")


def clear_former_vm(_: ClearFormerVm, work: Workplace) -> str:
    """Remove all of it that is there; the answer has the folders that were changed, and how many files went."""
    root = str(work.root)
    number = sum(_count(work, folder, removal.empty(folder, root)) for folder in EMPTIED)
    kept = []
    for folder, patterns in {**LEASES, **_units()}.items():
        try:
            number += _count(work, folder, removal.remove_matching(folder, patterns, root))
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            # An image that can't be changed brought it: that is nothing of a VM's.
            kept.append(f"{error.filename} stays, it is on a file system that is read-only")
    return "; ".join((f"{number} files removed", *kept))


def _units() -> dict[str, tuple[str, ...]]:
    drop_ins = {f"{folder}/{name}.service.d": DROP_INS for folder in UNIT_FOLDERS for name in SERVICES}
    return dict.fromkeys(UNIT_FOLDERS, UNITS) | drop_ins


def _count(work: Workplace, folder: str, removed: Iterator[str]) -> int:
    number = 0
    for _ in removed:
        work.wrote(folder)
        number += 1
    return number


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry (workers.runtime)."""
    serve(channel, lock, {ClearFormerVm: clear_former_vm})
