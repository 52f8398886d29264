# SPDX-License-Identifier: Apache-2.0
"""Owns which rule is wanted: what the options say of it, and by what the kernel can tell the supervisor's sockets.

Runs in the supervisor, at its start. It changes nothing.
"""

from typing import Literal

import msgspec

from ipc.messages import Rule
from ipc.messages.base import Cgroup
from ipc.messages.egress import Mechanism, Mode
from supervisor import options
from supervisor.config import Config
from supervisor.kernel_view import read

OWN_CGROUP = "/proc/self/cgroup"
# Beside the supervisor's own (supervisor/jail/cgroup.py).
WORKERS = "workers"
# In the order in which they are tried; the last two know a uid.
MECHANISMS: tuple[Mechanism, ...] = ("nft-cgroup", "nft-uid", "iptables")


class Wanted(msgspec.Struct, frozen=True):
    """`cgroup` is the supervisor's own (ipc.messages.egress), empty where it has none that a rule could name; `uid` the
    one under which sockets are made for it. Each `period_s` a rule that can't be watched is looked at."""

    mode: Mode | Literal["off"]
    address: str
    cgroup: str
    uid: int
    period_s: float

    def rule(self, mechanism: Mechanism, guests: tuple[str, ...] = (), *, root_is_guest: bool = False) -> Rule:
        """The rule by `mechanism`, for any mode but off."""
        mode: Mode = "observe" if self.mode == "observe" else "enforce"
        cgroup, uid = self._made_in(mechanism), 0 if mechanism == "nft-cgroup" else self.uid
        return Rule(mechanism, mode, self.address, cgroup, uid, guests, root_is_guest)

    def _made_in(self, mechanism: Mechanism) -> str:
        """The cgroup that sockets are made in: the supervisor's own, or that of all workers, beside it."""
        if mechanism == "nft-cgroup" or not self.cgroup:
            return self.cgroup
        return "/".join([*self.cgroup.split("/")[:-1], WORKERS]) if mechanism == "iptables" else ""


def wanted(config: Config, address: str, uid: int, root: str = "") -> Wanted:
    """What the options ask for, for the WireServer at `address`."""
    mode = config[options.FIREWALL_MODE] if config[options.ENABLE_FIREWALL] else "off"
    return Wanted(
        mode,  # type: ignore[arg-type] # one of the option's words
        address,
        own_cgroup(read(f"{root}{OWN_CGROUP}")),
        uid,
        float(config[options.ENABLE_FIREWALL_PERIOD]),
    )


def own_cgroup(text: str) -> str:
    """The cgroup of version 2 in `text`, as /proc/PID/cgroup has it; empty for none, and for one of an odd name."""
    path = next((line[3:] for line in text.splitlines() if line.startswith("0::")), "").lstrip("/")
    try:
        return msgspec.convert(path, Cgroup) if ".." not in path.split("/") else ""
    except msgspec.ValidationError:
        return ""
