# SPDX-License-Identifier: Apache-2.0
"""Owns the question who else may reach the WireServer for now: those who provision this VM and report to it themselves.

Runs in the supervisor. They have a cgroup of their own; the rule admits it until they are done, and in the same life of
the supervisor never again. The next one looks anew: it admits whoever is at work in that cgroup at its start.
"""

import os
from contextlib import suppress

from policy.egress.hierarchy import ROOT
from supervisor import facts, options
from supervisor.coexistence import choose
from supervisor.config import Config
from supervisor.marker import PROVISIONED

# As our package has their units put into it.
SLICE = "azureprovisioning.slice"
# Directly below the root of cgroup2, and where hybrid machines have that.
PLACES = (f"{ROOT}/{SLICE}", f"{ROOT}/unified/{SLICE}")
EVENTS = "cgroup.events"
MOST_BYTES = 4096


class Guests:
    """`cgroups` and `root` are admitted now: a rule's guests, and whether it takes root for one. Those of whom nobody
    tells that they are done get `patience_s` after this agent's own part."""

    def __init__(self, config: Config, lib: str, root: str = "") -> None:
        """Looks who provisions; `lib` is the folder of the marker that this VM is provisioned."""
        enabled, agent = config[options.PROVISIONING_ENABLED], config[options.PROVISIONING_AGENT]
        choice = choose(enabled, agent, facts.cloud_init_enabled(root))
        self.who = "cloud-init" if choice.who == "cloud-init" else "whoever provisions this VM"
        self.patience_s = float(config[options.CLOUD_INIT_TIMEOUT])
        self.cgroups: tuple[str, ...] = ()
        self.root = False
        # Of others than cloud-init nothing is known but that they are there: as long as their cgroup has processes.
        self._watches_cgroup = choice.who == "others"
        self._events = -1
        self.vm_is_new = unprovisioned = not os.path.lexists(f"{root}{lib}/{PROVISIONED}")
        if choice.who == "this agent":
            return
        # Kept open: when provisioning is over, this process can open no such file any more.
        self._events = _open_events(root)
        if self._events >= 0 and (unprovisioned or self._are_there()):
            self.cgroups = (SLICE,)
        # An image without our units for cloud-init: it must not fail for that.
        self.root = self._events < 0 and unprovisioned and choice.who == "cloud-init"

    @property
    def are_admitted(self) -> bool:
        return self.root or bool(self.cgroups)

    @property
    def are_at_work(self) -> bool:
        """Whether some are known to be, though this agent's own part in provisioning is over."""
        return self.are_admitted and self._watches_cgroup and self._are_there()

    def dismiss(self) -> None:
        """None is admitted any more."""
        self.cgroups, self.root = (), False
        if self._events >= 0:
            os.close(self._events)
            self._events = -1

    def _are_there(self) -> bool:
        # A cgroup that is gone can't be read.
        with suppress(OSError):
            return self._events >= 0 and b"populated 1" in os.pread(self._events, MOST_BYTES, 0)
        return False


def _open_events(root: str) -> int:
    for place in PLACES:
        with suppress(OSError):
            return os.open(f"{root}{place}/{EVENTS}", os.O_RDONLY | os.O_CLOEXEC)
    return -1
