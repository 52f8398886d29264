# SPDX-License-Identifier: Apache-2.0
"""Owns what the supervisor finds out by itself, to judge proposals by: the account, the VM's id, the media.

Runs in the supervisor, without a capability: small root-owned files and folder listings only; it writes nothing and
opens no medium.
"""

import os
import re
import stat
from typing import NamedTuple

from ipc.messages import AccountFacts

ACCOUNTS = "/etc/passwd"
LOGIN_DEFS = "/etc/login.defs"
PRODUCT_UUID = "/sys/class/dmi/id/product_uuid"
CLOUD_INIT = "cloud-init"
CLOUD_INIT_WANTED_BY = ("/etc/systemd/system/cloud-init.target.wants", "/run/systemd/generator/cloud-init.target.wants")
BOOT_ID = "/proc/sys/kernel/random/boot_id"
SSHD_PID = "/run/sshd.pid"
UID_MIN_FALLBACK = 100
NO_SHELLS = frozenset({"nologin", "false", "true", "sync", "shutdown", "halt"})
ACCOUNT_FIELDS = 7
LARGEST = 4 * 1024 * 1024
BOOT_ID_BYTES = 64
AUTO = "auto"
# provisioning.md 4: a device counts if its name begins like one of these.
MEDIA = tuple(map(re.compile, (r"sr[0-9]", r"hd[c-z]", r"cdrom[0-9]", r"cd[0-9]", r"vd[b-z]")))
UUID = re.compile(r"[0-9A-Fa-f]{8}-([0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")


class VmId(NamedTuple):
    """This VM's id in the host's byte order, upper case; empty with a `problem` when it can't be read."""

    value: str
    problem: str = ""


def account_facts(user_name: str, home_dir: str, root: str = "") -> AccountFacts:
    """The account `user_name` by /etc/passwd. `exists` is false as well for an account that looks like one of ours of
    which the home was not made yet: its committer finishes it. OSError when the file can't be read."""
    uid_min = _uid_min(root)
    home = f"{home_dir.rstrip('/')}/{user_name}"
    for line in _lines(f"{root}{ACCOUNTS}"):
        fields = line.split(":")
        if len(fields) == ACCOUNT_FIELDS and fields[0] == user_name and fields[2].isdecimal() and fields[3].isdecimal():
            uid, gid = int(fields[2]), int(fields[3])
            unfinished = uid >= uid_min and fields[5] == home and not os.path.isdir(f"{root}{home}")
            person = fields[6].rpartition("/")[2] not in NO_SHELLS
            return AccountFacts(not unfinished, uid, gid, fields[5], uid_min, person)
    return AccountFacts(exists=False, uid=0, gid=0, home="", uid_min=uid_min)


def vm_id(root: str = "") -> VmId:
    """The SMBIOS id that the firmware shows, corrected (provisioning.md 2)."""
    try:
        text = "\n".join(_lines(f"{root}{PRODUCT_UUID}")).strip()
    except OSError as error:
        return VmId("", f"{PRODUCT_UUID}: {error.strerror}")
    if not UUID.fullmatch(text):
        return VmId("", f"{PRODUCT_UUID} holds no UUID")
    return VmId(swapped(text).upper())


def boot_id(root: str = "") -> str:
    """The kernel's id of this boot."""
    # A sysctl refuses to be read by a buffer of megabytes.
    return "".join(_lines(f"{root}{BOOT_ID}", BOOT_ID_BYTES)).strip()


def same_vm(stored: str, current: str) -> bool:
    """Whether a stored id is this VM's. Letter case does not count; old agents stored it in the other byte order."""
    theirs, mine = stored.strip().lower(), current.strip().lower()
    return bool(mine) and theirs in (mine, swapped(mine) if UUID.fullmatch(mine) else mine)


def swapped(uuid: str) -> str:
    """The UUID with the bytes of its first three groups in reverse order."""
    first, second, third, *rest = uuid.split("-")
    return "-".join([*(bytes.fromhex(group)[::-1].hex() for group in (first, second, third)), *rest])


def media(configured: str, root: str = "") -> list[str]:
    """Where the provisioning DVD may be, likeliest first: the configured path, or what /dev has (provisioning.md 4)."""
    if configured != AUTO:
        return [f"{root}{configured}"]
    ranked = []
    for name in os.listdir(f"{root}/dev"):
        rank = next((number for number, pattern in enumerate(MEDIA) if pattern.match(name)), None)
        if rank is not None and not os.path.isdir(f"{root}/dev/{name}"):
            ranked.append((rank, len(name), name))
    return [f"{root}/dev/{name}" for _, _, name in sorted(ranked)]


def left_to_others(enabled: bool, agent: str, root: str = "") -> str:
    """Why provisioning is not this agent's affair (provisioning.md 1), empty when it is.

    cloud-init counts as enabled when systemd starts it at boot and nothing switches it off; no program is asked."""
    if not enabled:
        return "Provisioning.Enabled is n"
    if agent not in {AUTO, "waagent"} and agent != CLOUD_INIT:
        return f"Provisioning.Agent is {agent}"
    unit = any(os.path.lexists(f"{root}{folder}/cloud-init-local.service") for folder in CLOUD_INIT_WANTED_BY)
    on = unit and not os.path.lexists(f"{root}/etc/cloud/cloud-init.disabled")
    if agent == CLOUD_INIT or (agent == AUTO and on):
        return "cloud-init provisions this VM"
    return ""


def only_root_writes(path: str, root: str = "") -> bool:
    """Whether the file `path` is root's, and nobody else may write to it."""
    status = os.stat(f"{root}{path}")
    return status.st_uid == 0 and not status.st_mode & 0o022


def sshd_runs(root: str = "") -> bool:
    """Whether an sshd has left its process number; whether it is true is for the committer that signals it."""
    return os.path.exists(f"{root}{SSHD_PID}")


def _uid_min(root: str) -> int:
    try:
        lines = _lines(f"{root}{LOGIN_DEFS}")
    except OSError:
        return UID_MIN_FALLBACK
    values = [words[1] for words in map(str.split, lines) if len(words) > 1 and words[0] == "UID_MIN"]
    return int(values[-1]) if values and values[-1].isdecimal() else UID_MIN_FALLBACK


def _lines(path: str, most_bytes: int = LARGEST) -> list[str]:
    with open(path, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(0, "not a regular file", path)
        return file.read(most_bytes).decode("utf-8", "replace").split("\n")
