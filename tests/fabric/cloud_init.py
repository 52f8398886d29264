# SPDX-License-Identifier: Apache-2.0
"""Owns a stand-in for cloud-init in a lab: it leaves what the real one leaves, with the distribution's own tools.

Runs in the test or the demo; its programs run in the lab. It asks no host and reads no medium.
"""

from tests.fabric.lab import Lab
from tests.fabric.media import make_ovf
from tests.fabric.scene import CLOUD_INIT_SWITCH, Wanted

LIB = "/var/lib/waagent"
DOCUMENT = f"{LIB}/ovf-env.xml"
WANTED_BY = "/etc/systemd/system/cloud-init.target.wants"
LINK = f"{WANTED_BY}/cloud-init-local.service"
# What cloud-init writes in the place of the password.
REDACTED = "REDACTED"
# All that the stand-in changes outside of the agent's own folders, as paths begin.
ITS_OWN = ("/etc/ssh/ssh_host_", WANTED_BY, CLOUD_INIT_SWITCH)


def enable(lab: Lab) -> None:
    """cloud-init as an image that has it: started at boot, and nothing switches it off."""
    lab.output("rm", "-f", CLOUD_INIT_SWITCH)
    lab.output("mkdir", "-p", WANTED_BY)
    lab.output("ln", "-sfn", "/lib/systemd/system/cloud-init-local.service", LINK)


def document(wanted: Wanted, *, provision_guest_agent: str = "true") -> bytes:
    """ovf-env.xml as cloud-init copies it from the medium."""
    return make_ovf(
        wanted.user,
        REDACTED,
        wanted.host_name,
        wanted.keys,
        wanted.custom_data,
        disable_password=wanted.disable_password,
        provision_guest_agent=provision_guest_agent,
    )


def leave_document(lab: Lab, content: bytes) -> None:
    """Put the document where the agent looks for it, as cloud-init does: not in one go."""
    lab.output("mkdir", "-p", "-m", "0700", LIB)
    lab.output("sh", "-c", f"umask 077; : >{DOCUMENT}")
    lab.write(DOCUMENT, content)


def make_host_keys(lab: Lab, *types: str) -> None:
    """The image's SSH host keys go, fresh ones of `types` come."""
    lab.output("sh", "-c", "rm -f /etc/ssh/ssh_host_*")
    for each in types:
        lab.output("ssh-keygen", "-q", "-N", "", "-t", each, "-f", f"/etc/ssh/ssh_host_{each}_key", timeout_s=60.0)


def make_account(lab: Lab, wanted: Wanted) -> None:
    """Host name, account, its keys and its password."""
    lab.output("hostname", wanted.host_name)
    lab.write("/etc/hostname", f"{wanted.host_name}\n".encode())
    lab.output("useradd", "-m", "-s", "/bin/bash", wanted.user)
    if wanted.password is not None:
        lab.run(["chpasswd"], given=f"{wanted.user}:{wanted.password}\n".encode())
    folder = f"/home/{wanted.user}/.ssh"
    lab.output("install", "-d", "-m", "0700", "-o", wanted.user, "-g", wanted.user, folder)
    lab.write(f"{folder}/authorized_keys", "".join(f"{key}\n" for key in wanted.keys).encode())
    lab.output("chown", f"{wanted.user}:{wanted.user}", f"{folder}/authorized_keys")
    lab.output("chmod", "0600", f"{folder}/authorized_keys")
