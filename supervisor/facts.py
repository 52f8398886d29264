# SPDX-License-Identifier: Apache-2.0
"""Owns what the supervisor finds out by itself, to judge proposals by: the accounts, the media, who else provisions.

Runs in the supervisor, without a capability: small root-owned files and folder listings only; it writes nothing and
opens no medium.
"""

import os
import re
import stat

from ipc.messages import AccountFacts

ACCOUNTS = "/etc/passwd"
LOGIN_DEFS = "/etc/login.defs"
SKELETON = "/etc/skel"
# cloud-init is switched on by a link to this unit in a folder of what a target wants or requires.
CLOUD_INIT_UNIT = "cloud-init-local.service"
SYSTEMD_FOLDERS = ("/etc/systemd/system", "/run/systemd/generator")
WANTING = (".wants", ".requires")
SYSTEMD_RUNS = "/run/systemd/system"
# Without systemd: a link in the folder of a run level, of OpenRC's or sysvinit's.
OPENRC_LEVEL, SYSV_LEVEL = re.compile(r"\w+"), re.compile(r"rc[2-5S]\.d")
CLOUD_INIT_LINK = re.compile(r"(S[0-9]{2})?cloud-init(-local)?")
# And switched off by its own file or the kernel's command line, whatever else says.
CLOUD_INIT_SWITCH = "/etc/cloud/cloud-init.disabled"
COMMAND_LINE = "/proc/cmdline"
CLOUD_INIT_OFF = "cloud-init=disabled"
SSHD = "sshd"
UID_MIN_FALLBACK = 100
NO_SHELLS = frozenset({"nologin", "false", "true", "sync", "shutdown", "halt"})
ACCOUNT_FIELDS = 7
LARGEST = 4 * 1024 * 1024
AUTO = "auto"
# provisioning.md 4: a device counts if its name begins like one of these.
MEDIA = tuple(map(re.compile, (r"sr[0-9]", r"hd[c-z]", r"cdrom[0-9]", r"cd[0-9]", r"vd[b-z]")))


def account_facts(user_name: str, home_dir: str, root: str = "") -> AccountFacts:
    """The account `user_name` by /etc/passwd. `exists` is false as well for an account that looks like one of ours of
    which the home was not made yet: its committer finishes it. OSError when the file can't be read."""
    uid_min = least_uid(root)
    home = f"{home_dir.rstrip('/')}/{user_name}"
    for line in _lines(f"{root}{ACCOUNTS}"):
        fields = line.split(":")
        if len(fields) == ACCOUNT_FIELDS and fields[0] == user_name and fields[2].isdecimal() and fields[3].isdecimal():
            uid, gid = int(fields[2]), int(fields[3])
            unfinished = uid >= uid_min and fields[5] == home and not _is_home(home, root)
            person = fields[6].rpartition("/")[2] not in NO_SHELLS
            return AccountFacts(not unfinished, uid, gid, fields[5], uid_min, person)
    return AccountFacts(exists=False, uid=0, gid=0, home="", uid_min=uid_min)


def _is_home(path: str, root: str) -> bool:
    """Whether `path` is a home already. A folder of root's without anything of its own, such as a new file system, is
    one that the account's committer still has to give away."""
    try:
        status = os.stat(f"{root}{path}")
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != 0:
            return stat.S_ISDIR(status.st_mode)
        skeleton = os.listdir(f"{root}{SKELETON}") if os.path.isdir(f"{root}{SKELETON}") else []
        return not {*os.listdir(f"{root}{path}")} <= {*skeleton, "lost+found"}
    except FileNotFoundError:
        return False


def accounts_commented(comment: str, root: str = "") -> list[tuple[str, int, str]]:
    """Name, uid (0: unusable), comment of the accounts of /etc/passwd with this comment, or with that and what chfn
    adds after a comma; OSError when the file can't be read."""
    found = [line.split(":") for line in _lines(f"{root}{ACCOUNTS}")]
    return [
        (fields[0], int(fields[2]) if fields[2].isdecimal() else 0, fields[4])
        for fields in found
        if len(fields) == ACCOUNT_FIELDS and fields[4].partition(",")[0] == comment
    ]


def accounts_within(uids: range, root: str = "") -> list[str]:
    """The accounts of /etc/passwd whose uid is one of `uids`, as "name (uid)"; OSError when the file can't be read."""
    found = [line.split(":") for line in _lines(f"{root}{ACCOUNTS}")]
    return [
        f"{fields[0]} ({fields[2]})"
        for fields in found
        if len(fields) == ACCOUNT_FIELDS and fields[2].isdecimal() and int(fields[2]) in uids
    ]


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


def cloud_init_enabled(root: str = "") -> str:
    """What has cloud-init started at boot, empty when nothing does or it is switched off; no program is asked."""
    if os.path.lexists(f"{root}{CLOUD_INIT_SWITCH}") or CLOUD_INIT_OFF in _words(f"{root}{COMMAND_LINE}"):
        return ""
    if any(_is_masked(f"{root}{folder}/{CLOUD_INIT_UNIT}") for folder in SYSTEMD_FOLDERS):
        return ""
    for folder in SYSTEMD_FOLDERS:
        for name in _listed(f"{root}{folder}"):
            if name.endswith(WANTING) and os.path.lexists(f"{root}{folder}/{name}/{CLOUD_INIT_UNIT}"):
                return f"{folder}/{name}/{CLOUD_INIT_UNIT}"
    return "" if os.path.isdir(f"{root}{SYSTEMD_RUNS}") else _cloud_init_by_run_level(root)


def only_root_writes(path: str, root: str = "") -> bool:
    """Whether the file `path` is root's, and nobody else may write to it."""
    status = os.stat(f"{root}{path}")
    return status.st_uid == 0 and not status.st_mode & 0o022


def sshd_runs(root: str = "") -> bool:
    """Whether a program of that name runs; whether it is the sshd that is to be told is for the committer."""
    return any(_words(f"{root}/proc/{name}/comm") == [SSHD] for name in _listed(f"{root}/proc") if name.isdecimal())


def _cloud_init_by_run_level(root: str) -> str:
    for top, pattern in (("/etc/runlevels", OPENRC_LEVEL), ("/etc", SYSV_LEVEL)):
        for level in filter(pattern.fullmatch, _listed(f"{root}{top}")):
            for name in filter(CLOUD_INIT_LINK.fullmatch, _listed(f"{root}{top}/{level}")):
                return f"{top}/{level}/{name}"
    return ""


def _is_masked(unit: str) -> bool:
    """As systemd has it: a unit file of no content, or a link to the null device, in the place of the real one."""
    try:
        return os.readlink(unit) == os.devnull if os.path.islink(unit) else os.stat(unit).st_size == 0
    except OSError:
        return False


def _listed(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _words(path: str) -> list[str]:
    try:
        return " ".join(_lines(path)).split()
    except OSError:
        return []


def least_uid(root: str = "") -> int:
    """From which uid on accounts are people's, by login.defs."""
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
