# SPDX-License-Identifier: Apache-2.0
"""Owns what our package adds to systemd for the rule in front of the WireServer, as files for a lab, and stand-ins.

The stand-ins are services that ask the WireServer once: one where cloud-init's would be, one that is anybody's.
"""

from tests.fabric.lab import PROJECT, PlacedFile
from tests.fabric.systemd_lab import UNITS

PACKAGED = PROJECT / "packaging/systemd"
BOOT_UNIT, SLICE = "agent-supervisor-firewall.service", "azureprovisioning.slice"
CLOUD_INIT, ANYBODY, NETWORK = "cloud-init-local.service", "anybody.service", "stand-in-network.service"
# Where NETWORK notes which tables it found.
NOTED = "/run/tables-before-the-network"
# One request; its first line is kept. A connection that is refused fails the service.
ASK = """exec 3<>/dev/tcp/168.63.129.16/80
printf 'GET /?comp=versions HTTP/1.1\\r\\nHost: 168.63.129.16\\r\\nConnection: close\\r\\n\\r\\n' >&3
head -n 1 <&3 >/run/answer-of-$1
grep -q ' 200 ' /run/answer-of-$1
"""
ASKING = """[Unit]
Description=Asks the WireServer
{more}
[Service]
Type=oneshot
ExecStart=bash /usr/local/lib/ask {name}
"""
# What brings the network up: it notes which tables there are by then.
NETWORK_COMES = """[Unit]
Description=The network comes up
DefaultDependencies=no
After=network-pre.target
Wants=network-pre.target
[Service]
Type=oneshot
ExecStart=sh -c 'nft list tables >/run/tables-before-the-network || iptables -S >/run/tables-before-the-network'
"""


def boot_files(config: bytes, *, cloud_init: bool = False) -> dict[str, bytes | PlacedFile]:
    """Our units, the boot unit enabled, and the stand-ins; `cloud_init`: its stand-in is enabled as cloud-init is."""
    files: dict[str, bytes | PlacedFile] = {"/etc/waagent.conf": config, "/usr/local/lib/ask": ASK.encode()}
    for path in PACKAGED.rglob("*"):
        if path.is_file():
            files[f"/usr/lib/systemd/system/{path.relative_to(PACKAGED)}"] = path.read_bytes()
    # The distribution's nftables.service begins with a flush of everything: ours has to come after it.
    wanted = f"[Unit]\nWants={BOOT_UNIT} {NETWORK} nftables.service\n"
    files[f"{UNITS}/sysinit.target.d/enabled.conf"] = wanted.encode()
    files[f"{UNITS}/{NETWORK}"] = NETWORK_COMES.encode()
    for unit in (CLOUD_INIT, ANYBODY):
        name = unit.removesuffix(".service")
        text = ASKING.format(name=name, more="DefaultDependencies=no\nBefore=network-pre.target" * (unit == CLOUD_INIT))
        files[f"{UNITS}/{unit}"] = text.encode()
    if cloud_init:
        files[f"{UNITS}/cloud-init.target.wants/{CLOUD_INIT}"] = b"[Unit]\n"
    return files
