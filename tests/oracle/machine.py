# SPDX-License-Identifier: Apache-2.0
"""Owns the lab in which the distribution's agent runs: its image, its network, and stand-ins for what a lab lacks.

Runs in the test or the command, as root. The agent itself is the package's, on the system's Python, unchanged.
"""

import subprocess

from tests.fabric.lab import PATH, Lab, PlacedFile
from tests.fabric.scene import AGENT_LOG, CONFIG, Scene, image_files
from tests.oracle.package import Package

STAND_INS = "/usr/local/lib/stand-ins"
CALLS = "/run/stand-ins.log"
# The host in full, but for the storage account.
SERVICES = ("--plugin=168.63.129.16:32526", "--metadata=169.254.169.254:80")
NETWORK = (
    "ip link add eth0 type veth peer name host0",
    "ip address add 10.0.0.4/24 dev eth0",
    "ip link set eth0 up",
    "ip link set host0 up",
    # It looks for this one in /proc/net/route and does without DHCP then.
    "ip route add 168.63.129.16 dev eth0",
    "ip address add 169.254.169.254/32 dev lo",
)
_NOTE = f'#!/bin/sh\necho "$(basename "$0") $*" >>{CALLS}\n'
# The kernel below has neither UDF nor ISO9660: the file is copied out of the image instead of mounting that.
_MOUNT = """case " $* " in *" -t udf,iso9660,vfat "*) ;; *) exec /usr/bin/mount "$@" ;; esac
for place; do device=${last-}; last=$place; done
exec isoinfo -J -i "$device" -x /ovf-env.xml >"$place/ovf-env.xml"
"""
_UNMOUNT = 'rm -- "$1/ovf-env.xml"\n'


def _program(script: str) -> PlacedFile:
    return PlacedFile((_NOTE + script).encode(), 0o755)


def image(package: Package | None, key_type: str) -> dict[str, bytes | PlacedFile]:
    """An image for Azure whose host keys are to be of `key_type`; with `package`, one that has the distribution's agent
    instead of ours."""
    config = CONFIG.replace(b"KeyPairType=auto", f"KeyPairType={key_type}".encode())
    files = image_files(config + b"AutoUpdate.Enabled=n\n")
    # The machine below the overlay may be one of cloud-init's.
    files["/etc/systemd/system/cloud-init-local.service"] = b""
    if package is not None:
        files |= package.files()
        files[f"{STAND_INS}/mount"] = _program(_MOUNT)
        files[f"{STAND_INS}/umount"] = _program(_UNMOUNT)
        files |= {f"{STAND_INS}/{name}": _program("") for name in ("eject", "ifdown", "ifup")}
        files[f"{STAND_INS}/service"] = _program("exit 1\n")
    return files


def start_host(scene: Scene, medium: bytes) -> None:
    """The VM's network, the emulated host on it, and the DVD."""
    for command in NETWORK:
        scene.lab.output(*command.split())
    scene.start_host(more=SERVICES)
    scene.insert(medium)


def start_agent(scene: Scene) -> subprocess.Popen[bytes]:
    """Start the distribution's agent as its unit does; it logs to AGENT_LOG."""
    with scene.lab.path(AGENT_LOG).open("ab") as log:
        return scene.lab.popen(
            ["/usr/bin/python3", "-u", "/usr/sbin/waagent", "-daemon"],
            cgroup=scene.agent_cgroup,
            env={"PATH": f"{STAND_INS}:{PATH}"},
            stdout=log,
            stderr=log,
        )


def calls(lab: Lab) -> list[str]:
    """What it asked of the stand-ins, oldest first."""
    return lab.read(CALLS).decode().splitlines()
