# SPDX-License-Identifier: Apache-2.0
"""Owns the description of a provisioned machine: what stands there, by name, in words that can be compared.

Runs in the test or the command, outside the lab, where its files are reached straight: on the way to what it looks at
no image has a link. It describes any agent's work and judges none.
"""

import stat

from tests.fabric.lab import VM_ID, Lab
from tests.fabric.outcome import LIB
from tests.fabric.scene import OLD_HOST_KEY, Scene, Wanted

ABSENT = "absent"
KEYWORDS = ("PasswordAuthentication", "KbdInteractiveAuthentication", "ClientAliveInterval")
# What sshd may call the second one.
OLD_NAMES = {"challengeresponseauthentication": "kbdinteractiveauthentication"}


def describe(scene: Scene, wanted: Wanted) -> dict[str, str]:
    """Every fact, by its name."""
    lab = scene.lab
    home = f"/home/{wanted.user}"
    passwd, shadow = _line(lab, "/etc/passwd", wanted.user), _line(lab, "/etc/shadow", wanted.user)
    facts = {f"passwd: {name}": value for name, value in zip(PASSWD, passwd, strict=True)}
    facts |= {f"shadow: {name}": value for name, value in zip(SHADOW, shadow[2:], strict=True)}
    facts["shadow: password"] = _password(lab, shadow[1], wanted.password)
    facts["shadow: root's password"] = _line(lab, "/etc/shadow", "root")[1]
    facts["groups"] = lab.output("id", "-nG", wanted.user).strip()
    facts |= _files(lab, home)
    facts |= _sshd(lab)
    facts |= _host_keys(lab)
    facts["host name: now"] = lab.output("hostname").strip()
    facts["CustomData"] = _read(lab, f"{LIB}/CustomData")
    facts["marker"] = _read(lab, f"{LIB}/provisioned").strip().upper()
    facts["marker: is the VM's id"] = str(facts["marker"] == _host_order(VM_ID))
    facts["where the password stands in clear"] = _leaks(lab, wanted.password)
    facts["reports"] = ", ".join(report.brief for report in scene.reports())
    return facts


PASSWD = ("name", "password", "uid", "gid", "comment", "home", "shell")
SHADOW = ("changed", "minimum", "maximum", "warning", "inactive", "expiry", "reserved")


def _files(lab: Lab, home: str) -> dict[str, str]:
    """Contents and modes of what both agents write."""
    contents = {
        "sudoers": "/etc/sudoers.d/waagent",
        "authorized_keys": f"{home}/.ssh/authorized_keys",
        "host name: file": "/etc/hostname",
        "ovf-env.xml": f"{LIB}/ovf-env.xml",
    }
    modes = {
        "home": home,
        ".ssh": f"{home}/.ssh",
        "sudoers": "/etc/sudoers.d/waagent",
        "authorized_keys": f"{home}/.ssh/authorized_keys",
        "host name: file": "/etc/hostname",
        "ovf-env.xml": f"{LIB}/ovf-env.xml",
        "CustomData": f"{LIB}/CustomData",
        "marker": f"{LIB}/provisioned",
        "folder of state": LIB,
        "log": "/var/log/waagent.log",
    }
    texts = {name: _read(lab, path) for name, path in contents.items()}
    return texts | {f"{name}: mode and owner": _facts(lab, path) for name, path in modes.items()}


def _sshd(lab: Lab) -> dict[str, str]:
    """What sshd would go by: the first word on a matter counts; the image's configuration begins with its Include."""
    included = [f"/etc/ssh/sshd_config.d/{path.name}" for path in lab.path("/etc/ssh/sshd_config.d").glob("*.conf")]
    files = [*sorted(included), "/etc/ssh/sshd_config"]
    found: dict[str, str] = {}
    for line in "\n".join(_read(lab, path) for path in files).splitlines():
        keyword, _, value = line.strip().partition(" ")
        found.setdefault(OLD_NAMES.get(keyword.lower(), keyword.lower()), value.strip())
    return {f"sshd: {keyword}": found.get(keyword.lower(), "not said") for keyword in KEYWORDS}


def _host_keys(lab: Lab) -> dict[str, str]:
    """Which there are, whether they are new, whether the two halves fit."""
    paths = sorted(f"/etc/ssh/{path.name}" for path in lab.path("/etc/ssh").glob("ssh_host_*_key"))
    old = [path for path in paths if lab.path(path).read_bytes() == OLD_HOST_KEY]
    odd = [path for path in paths if not _is_pair(lab, path)]
    modes = {f"{_facts(lab, path)}, public {_facts(lab, path + '.pub')}" for path in paths}
    return {
        "host keys": " ".join(path.rpartition("/")[2] for path in paths),
        "host keys: the image's": " ".join(old) or ABSENT,
        "host keys: halves that don't fit": " ".join(odd) or "none",
        "host keys: mode and owner": "; ".join(sorted(modes)),
    }


def _is_pair(lab: Lab, private: str) -> bool:
    made, public = lab.run(["ssh-keygen", "-yf", private]), _read(lab, f"{private}.pub")
    return made.returncode == 0 and made.stdout.split()[:2] == public.split()[:2]


def _password(lab: Lab, stored: str, password: str | None) -> str:
    """What is stored, and whether the password fits it."""
    if password is None:
        return "locked" if stored.startswith(("!", "*")) else "open"
    _, algorithm, salt, _hash = stored.split("$")
    command = ["openssl", "passwd", f"-{algorithm}", "-salt", salt, "-stdin"]
    made = lab.run(command, given=password.encode() + b"\n").stdout.strip()
    return f"${algorithm}$, {'fits' if made == stored else 'does not fit'}"


def _leaks(lab: Lab, password: str | None) -> str:
    if password is None:
        return "nowhere"
    written = [change.path for change in lab.changed() if stat.S_ISREG(change.mode)]
    paths = [path for path in (*written, "/run/fabric/agent.log") if password.encode() in lab.path(path).read_bytes()]
    return " ".join(paths) or "nowhere"


def _line(lab: Lab, path: str, name: str) -> list[str]:
    lines = [line.split(":") for line in lab.path(path).read_text().splitlines()]
    return next(fields for fields in lines if fields[0] == name)


def _facts(lab: Lab, path: str) -> str:
    """Mode and owner of what stands at `path` itself, a link's included."""
    try:
        facts = lab.path(path).lstat()
    except FileNotFoundError:
        return ABSENT
    owners = [_name(lab, "/etc/passwd", facts.st_uid), _name(lab, "/etc/group", facts.st_gid)]
    return f"{stat.filemode(facts.st_mode)} {':'.join(owners)}"


def _name(lab: Lab, path: str, number: int) -> str:
    lines = [line.split(":") for line in lab.path(path).read_text().splitlines()]
    return next((fields[0] for fields in lines if fields[2] == str(number)), str(number))


def _read(lab: Lab, path: str) -> str:
    try:
        return lab.path(path).read_text(errors="backslashreplace")
    except FileNotFoundError:
        return ABSENT


def _host_order(uuid: str) -> str:
    """The first three groups of an SMBIOS id turned round."""
    groups = uuid.split("-")
    return "-".join([bytes.fromhex(group)[::-1].hex() for group in groups[:3]] + groups[3:]).upper()
