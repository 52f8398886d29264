# SPDX-License-Identifier: Apache-2.0
"""Owns the judgement over a provisioned lab: compares what stands there with what the tenant asked for.

Runs in the test or the demo, outside the lab, and believes nothing that the agent says about itself.
"""

import stat
from collections.abc import Iterator
from dataclasses import dataclass

from tests.fabric.documents import read_role_properties
from tests.fabric.lab import VM_ID, Lab
from tests.fabric.scene import AGENT_LOG, OLD_HOST_KEY, Scene, Wanted

LIB = "/var/lib/waagent"


@dataclass(frozen=True)
class Check:
    """One thing looked at: what, whether it is right, and what was found."""

    what: str
    right: bool
    found: str


def judge(scene: Scene, wanted: Wanted) -> list[Check]:
    """Every check, in the order of provisioning.md."""
    lab = scene.lab
    return [
        *_account(lab, wanted),
        *_keys(lab, wanted),
        *_sudo(lab, wanted),
        *_sshd(lab, wanted),
        *_host_keys(lab),
        *_names_and_files(lab, wanted),
        *_secrets(lab, wanted),
        *_host(scene),
    ]


def _account(lab: Lab, wanted: Wanted) -> Iterator[Check]:
    line = lab.run(["getent", "passwd", wanted.user]).stdout.strip()
    fields = line.split(":")
    right = len(fields) == 7 and int(fields[2]) >= 1000 and fields[5] == f"/home/{wanted.user}"
    yield Check("account", right, line or f"no account {wanted.user}")
    home = _facts(lab, f"/home/{wanted.user}")
    yield Check("home folder", right and home.endswith(f" {fields[2]}:{fields[3]}"), home)
    shadow = {one.split(":")[0]: one.split(":") for one in lab.read("/etc/shadow").decode().splitlines()}
    stored = shadow.get(wanted.user, ["", ""])[1]
    if wanted.password is not None:
        yield Check("password fits its hash", _hash(lab, stored, wanted.password) == stored != "", stored[:6] + "...")
    else:
        yield Check("no password", stored.startswith(("!", "*")), stored)
    root = shadow["root"][1]
    yield Check("root's password locked", root.startswith(("*", "!")), root if len(root) < 10 else "a hash")


def _hash(lab: Lab, stored: str, password: str) -> str:
    """What crypt(3) makes of `password` with the salt and the algorithm of `stored`."""
    parts = stored.split("$")
    if len(parts) != 4:
        return ""
    command = ["openssl", "passwd", f"-{parts[1]}", "-salt", parts[2], "-stdin"]
    return lab.run(command, given=password.encode() + b"\n").stdout.strip()


def _keys(lab: Lab, wanted: Wanted) -> Iterator[Check]:
    if not wanted.keys:
        return
    path = f"/home/{wanted.user}/.ssh/authorized_keys"
    lines = tuple(_text(lab, path).splitlines())
    yield Check("SSH keys", lines == wanted.keys, f"{len(lines)} in {path}")
    owner = lab.run(["stat", "-c", "%u:%g", f"/home/{wanted.user}"]).stdout.strip()
    for place, kind, modes in ((f"/home/{wanted.user}/.ssh", "d", {0o700}), (path, "-", {0o600, 0o644})):
        facts = _facts(lab, place)
        allowed = {stat.filemode((stat.S_IFDIR if kind == "d" else stat.S_IFREG) | mode) for mode in modes}
        yield Check("their mode and owner", facts.split()[:1][0] in allowed and facts.endswith(f" {owner}"), facts)


def _sudo(lab: Lab, wanted: Wanted) -> Iterator[Check]:
    path = "/etc/sudoers.d/waagent"
    expected = f"{wanted.user} ALL=(ALL) {'ALL' if wanted.password is not None else 'NOPASSWD: ALL'}"
    yield Check("sudo's line", expected in _text(lab, path).splitlines(), expected)
    yield Check("its mode and owner", _facts(lab, path) == f"-r--r----- {path} 0:0", _facts(lab, path))
    verdict = lab.run(["visudo", "-c"])
    yield Check("sudo accepts its files", verdict.returncode == 0, (verdict.stdout + verdict.stderr).splitlines()[-1])


def _sshd(lab: Lab, wanted: Wanted) -> Iterator[Check]:
    path = "/etc/ssh/sshd_config.d/50-agent-supervisor.conf"
    expected = f"PasswordAuthentication {'no' if wanted.disable_password else 'yes'}"
    yield Check("sshd's settings", expected in _text(lab, path).splitlines(), f"{expected} in {path}")


def _host_keys(lab: Lab) -> Iterator[Check]:
    names = _host_key_names(lab)
    prints = _fingerprints(lab)
    yield Check("SSH host keys", bool(prints) and all("SHA256:" in one for one in prints), "; ".join(prints) or "none")
    modes = {_facts(lab, name).split()[0] for name in names}
    yield Check("private ones are root's alone", modes == {"-rw-------"}, " ".join(sorted(modes)))
    old = [name for name in names if lab.read(name) == OLD_HOST_KEY]
    yield Check("the image's are gone", not old, " ".join(old) or "none left")


def _host_key_names(lab: Lab) -> list[str]:
    return sorted(lab.run(["find", "/etc/ssh", "-maxdepth", "1", "-name", "ssh_host_*_key"]).stdout.split())


def _fingerprints(lab: Lab) -> list[str]:
    """Of each host key, as ssh-keygen tells it."""
    return [lab.run(["ssh-keygen", "-lf", f"{name}.pub"]).stdout.strip() for name in _host_key_names(lab)]


def _names_and_files(lab: Lab, wanted: Wanted) -> Iterator[Check]:
    live, stored = lab.output("hostname").strip(), _text(lab, "/etc/hostname").strip()
    yield Check("host name", live == stored == wanted.host_name, f"{live}, /etc/hostname {stored}")
    if wanted.custom_data is not None:
        right = _content(lab, f"{LIB}/CustomData") == wanted.custom_data
        yield Check("custom data", right, _facts(lab, f"{LIB}/CustomData"))
    yield marker_check(lab)
    copy = _text(lab, f"{LIB}/ovf-env.xml")
    yield Check("ovf-env.xml kept", f"<UserName>{wanted.user}</UserName>" in copy, _facts(lab, f"{LIB}/ovf-env.xml"))


def marker_check(lab: Lab) -> Check:
    """Is the VM marked as provisioned, by its own id?"""
    marker = _text(lab, f"{LIB}/provisioned").strip()
    shown = _text(lab, "/sys/class/dmi/id/product_uuid").strip()
    return Check("marker holds the VM's id", marker.upper() == _swapped(shown or VM_ID).upper(), marker or "no marker")


def refusal_check(scene: Scene) -> Check:
    """Did the host take everything?"""
    wrong = [
        f"{r['method']} {r['target']}: {r['why']}" for r in scene.records() if r["verdict"] in {"refused", "broken"}
    ]
    return Check("the host refused nothing", not wrong, "; ".join(wrong) or f"{len(scene.records())} requests")


def _secrets(lab: Lab, wanted: Wanted) -> Iterator[Check]:
    if wanted.password is None:
        return
    written = [change.path for change in lab.changed() if stat.S_ISREG(change.mode)]
    # Straight from outside: on the way to what was found in the upper layer there is no link.
    contents = {path: lab.path(path) for path in (*written, AGENT_LOG)}
    told = [name for name, path in contents.items() if path.exists() and wanted.password.encode() in path.read_bytes()]
    found = " ".join(told) or f"not in the log, not in any of {len(written)} files"
    yield Check("the password stands nowhere", not told, found)


def _host(scene: Scene) -> Iterator[Check]:
    reports = [report.brief for report in scene.reports()]
    right = reports.count("Ready") == 1 and reports[-1] == "Ready" and reports[0].startswith("NotReady Provisioning")
    yield Check("reports: NotReady, then one Ready", right, ", ".join(reports) or "none")
    told = [read_role_properties(str(r["body"]).encode()) for r in scene.records() if r["route"] == "roleproperties"]
    thumbprints = {report.thumbprint for report in told}
    mine = {one.split()[1].replace(":", "") for one in _fingerprints(scene.lab) if one}
    yield Check(
        "the host has a host key's fingerprint", bool(thumbprints) and thumbprints <= mine, " ".join(thumbprints)
    )
    yield refusal_check(scene)


def _swapped(uuid: str) -> str:
    """The first three groups of an SMBIOS id in the host's byte order."""
    groups = uuid.split("-")
    return "-".join([bytes.fromhex(group)[::-1].hex() for group in groups[:3]] + groups[3:])


def _facts(lab: Lab, path: str) -> str:
    """Mode, path and owner as `ls` has them; what is wrong when it isn't there."""
    done = lab.run(["stat", "-c", "%A %n %u:%g", "--", path])
    return (done.stdout or done.stderr).strip()


def _content(lab: Lab, path: str) -> bytes:
    try:
        return lab.read(path)
    except FileNotFoundError:
        return b""


def _text(lab: Lab, path: str) -> str:
    return _content(lab, path).decode(errors="replace")
