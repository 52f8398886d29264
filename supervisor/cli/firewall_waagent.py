# SPDX-License-Identifier: Apache-2.0
"""Owns what waagent left to have its rules set at every boot: a unit, its script, firewalld's permanent rules.

Runs in the process of `agent-supervisor firewall`, as root. Only what is recognisably waagent's is touched
(devices.md 6.4); where nothing can be removed, as in an image whose /usr is read-only, the unit is masked in /etc.
"""

import contextlib
import errno
import os
import shlex
import stat

import msgspec

from policy.egress import leftovers
from supervisor.cli.firewall_programs import Programs

UNITS = ("waagent-network-setup.service", "walinuxagent-network-setup.service")
FOLDERS = ("etc/systemd/system", "run/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
ETC = FOLDERS[0]
SCRIPT = "waagent-network-setup.py"
# Stands in both, whichever version made them.
MARK = b"was created by the Azure VM Agent"
LARGEST = 65536
PERMANENT = ("--permanent", "--direct")


class Remains(msgspec.Struct, frozen=True):
    """`units` and `scripts`: files; `links`: what enables a unit; `direct`: arguments of firewalld's rules."""

    units: tuple[str, ...] = ()
    links: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()
    direct: tuple[tuple[str, ...], ...] = ()

    @property
    def names(self) -> list[str]:
        """For people."""
        return [*self.units, *self.links, *self.scripts, *(f"firewalld: ipv4 {' '.join(rule)}" for rule in self.direct)]


def remains(programs: Programs, address: str, lib_dir: str, root: str = "") -> Remains:
    """What there is; `address` is the WireServer's, `lib_dir` waagent's own folder."""
    # /lib is a link into /usr nearly everywhere: the same file twice.
    units = {os.path.realpath(path) for path in _unit_files(root) if _is_waagents(path)}
    links = [path for name in {os.path.basename(path) for path in units} for path in _links(name, root)]
    units = {path for path in units if not _is_masked(os.path.basename(path), root)}
    script = f"{root}{lib_dir}/{SCRIPT}"
    return Remains(
        tuple(sorted(units)),
        tuple(sorted(links)),
        (script,) if _is_waagents(script) else (),
        _direct(programs, address),
    )


def take_over(programs: Programs, found: Remains, root: str = "") -> list[str]:
    """Remove all of `found`; returns what has to be said besides: what was masked, what stays and why."""
    said = [said for path in found.units for said in _remove_unit(path, root)]
    for path in (*found.links, *found.scripts):
        try:
            os.unlink(path)
        except OSError as error:
            said.append(f"{path} stays: {error.strerror}")
    for rule in found.direct:
        done = programs.run("firewall-cmd", (*PERMANENT, "--remove-passthrough", "ipv4", *rule))
        said += [] if done.well else [f"firewalld's {shlex.join(rule)} stays: {done.complaint}"]
    if found.units and os.path.isdir(f"{root}/run/systemd/system"):
        programs.run("systemctl", ("daemon-reload",))
    return said


def _unit_files(root: str) -> list[str]:
    return [f"{root}/{folder}/{name}" for folder in FOLDERS for name in UNITS]


def _links(name: str, root: str) -> list[str]:
    """What enables the unit called `name`."""
    found = []
    folder = f"{root}/{ETC}"
    with contextlib.suppress(OSError):
        for wanting in os.listdir(folder):
            path = f"{folder}/{wanting}/{name}"
            if wanting.endswith((".wants", ".requires")) and os.path.islink(path):
                found.append(path)
    return found


def _is_masked(name: str, root: str) -> bool:
    """Whether systemd is told that there is no unit called `name`."""
    try:
        return os.readlink(f"{root}/{ETC}/{name}") == os.devnull
    except OSError:
        return False


def _remove_unit(path: str, root: str) -> list[str]:
    try:
        os.unlink(path)
    except OSError as error:
        if error.errno != errno.EROFS:
            return [f"{path} stays: {error.strerror}"]
    else:
        return []
    mask = f"{root}/{ETC}/{os.path.basename(path)}"
    try:
        os.symlink(os.devnull, mask)
    except OSError as error:
        return [f"{path} is on a read-only file system, and can't be masked ({error.strerror}): it stays in force"]
    return [f"{path} is on a read-only file system: masked by {mask}"]


def _direct(programs: Programs, address: str) -> tuple[tuple[str, ...], ...]:
    """Its rules among those that firewalld loads at each start. Only a firewalld that runs can be asked."""
    if not programs.has("firewall-cmd"):
        return ()
    told = programs.run("firewall-cmd", (*PERMANENT, "--get-all-passthroughs")).out
    rules = [line.removeprefix("ipv4 ") for line in told.splitlines() if line.startswith("ipv4 -t security ")]
    return tuple(tuple(shlex.split(rule)) for rule in rules if leftovers.removals(_as_listed(rule), address))


def _as_listed(rule: str) -> str:
    """One of firewalld's direct rules as `iptables -S` would list it."""
    listed = rule.removeprefix("-t security ").replace(" --destination-port ", " --dport ")
    return listed.replace("-I OUTPUT ", "-A OUTPUT ")


def _is_waagents(path: str) -> bool:
    """Whether the file at `path` is there, root's own, and says that waagent made it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        status = os.fstat(descriptor)
        return stat.S_ISREG(status.st_mode) and status.st_uid == 0 and MARK in os.read(descriptor, LARGEST)
    finally:
        os.close(descriptor)
