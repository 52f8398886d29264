# SPDX-License-Identifier: Apache-2.0
"""Owns what the settings want of the rule, and which mechanisms this machine may have for it.

Runs in the process of `agent-supervisor firewall`. It reads files and starts nothing.
"""

import os

import msgspec

from ipc.messages.egress import Mechanism, Rule
from policy.egress.hierarchy import below
from policy.profile import WORKER_UIDS
from supervisor import options
from supervisor.cli.firewall_programs import Programs
from supervisor.coexistence import choose
from supervisor.config import load
from supervisor.egress.guests import SLICE
from supervisor.egress.wanted import Wanted, wanted
from supervisor.facts import cloud_init_enabled
from supervisor.wire.endpoint import saved_endpoint

# That of policy/profiles/wire-socket.toml: the agent's sockets are made under it where it can't be told by its cgroup.
SOCKET_UID = WORKER_UIDS[-1]
AZURE_INIT = "etc/systemd/system/multi-user.target.wants/azure-init.service"
MOUNTS = "/proc/self/mountinfo"


class Wish(msgspec.Struct, frozen=True):
    """`wanted` is as the agent would have it, `why` names the settings that decided. `guest` is who else is known to
    provision this VM; `by_others`: it is at least not this agent. `lib_dir` is where another agent has its files."""

    wanted: Wanted
    why: str
    guest: str
    by_others: bool
    lib_dir: str


class Ways(msgspec.Struct, frozen=True):
    """The mechanisms that this machine may have, the best first, and `why` no better ones. `below`: where below
    /sys/fs/cgroup cgroup2 is mounted."""

    mechanisms: tuple[Mechanism, ...]
    why: str = ""
    below: str = ""


def wish(config: str) -> Wish:
    """What the settings in the file at `config` want. ConfigError when they can't be read."""
    parsed = load(config)
    settings = parsed.config
    wrong = [f"{config}, {finding}" for finding in parsed.findings if "Firewall" in finding.problem]
    enabled = "y" if settings[options.ENABLE_FIREWALL] else "n"
    cloud_init = cloud_init_enabled()
    choice = choose(settings[options.PROVISIONING_ENABLED], settings[options.PROVISIONING_AGENT], cloud_init)
    azure_init = "azure-init" if os.path.lexists(f"/{AZURE_INIT}") else ""
    lib_dir = settings[options.LIB_DIR]
    return Wish(
        wanted(settings, saved_endpoint(lib_dir).address, SOCKET_UID),
        "; ".join([f"OS.EnableFirewall={enabled}, Firewall.Mode={settings[options.FIREWALL_MODE]}", *wrong]),
        "" if choice.who == "this agent" else "cloud-init" if cloud_init else azure_init,
        choice.who != "this agent",
        lib_dir,
    )


def ways(programs: Programs) -> Ways:
    """Which ones there are."""
    iptables: tuple[Mechanism, ...] = ("iptables",) if programs.has("iptables-restore") else ()
    if not programs.has("nft"):
        return Ways(iptables, "nft is not installed" if iptables else "neither nft nor iptables is installed")
    try:
        with open(MOUNTS, encoding="utf-8", errors="replace") as file:
            return Ways(("nft-cgroup", "nft-uid", *iptables), "", below(file.read()))
    except ValueError as error:
        return Ways(("nft-uid", *iptables), str(error))


def boot_rule(wish: Wish, mechanism: Mechanism) -> Rule:
    """Nobody but those who provision in the agent's place: the agent is not there yet."""
    rule = wish.wanted.rule(mechanism)
    by_uid = mechanism != "nft-cgroup"
    # Whatever a marker says: the first boot of a VM that was made from a provisioned one has it, too.
    guests = (SLICE,) if wish.by_others and not by_uid else ()
    return msgspec.structs.replace(rule, cgroup="", uid=0, guests=guests, root_is_guest=by_uid and bool(wish.guest))


def agent_rule(wish: Wish, mechanism: Mechanism, cgroup: str) -> Rule:
    """The supervisor alone, in the cgroup `cgroup`: what the agent loads once nobody else provisions."""
    return msgspec.structs.replace(wish.wanted, cgroup=cgroup).rule(mechanism)
