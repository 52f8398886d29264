# SPDX-License-Identifier: Apache-2.0
"""Owns the place of the attacks: one lab, in it one rig at a time, kept for as long as nobody wants another one."""

from collections.abc import Sequence

from tests.fabric.lab import Lab
from tests.jail.mutants import Mutation
from tests.jail.rigged import Rig, place_bait, place_policy, policy_sources

MODULES = {"workers.hostile": "tests.abuse.hostile"}


class Ground:
    """`rig` gives the agent with the mutations asked for, its parser and provisioning worker ready to be taken over."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        place_bait(lab)
        lab.output("install", "-m", "4755", "/usr/bin/id", "/usr/local/bin/setuid-id")
        sources = policy_sources(
            parser=('"workers.parser.main"', '"workers.hostile"'),
            provisioning=('"workers.provisioning.main"', '"workers.hostile"'),
        )
        self._policy = place_policy(lab, "hostile", sources)
        self._key: object = None
        self._rig: Rig | None = None

    def rig(self, mutations: Sequence[Mutation] = (), *, early: str = "", phase: str = "provisioning") -> Rig:
        """The rig with just these, a running one if it is that."""
        key = (tuple(mutations), early, phase)
        if self._rig is None or key != self._key:
            self.clear()
            self._rig = Rig(self.lab, self._policy, mutations, modules=MODULES, early=early, phase=phase).open()
            self._key = key
        return self._rig

    def clear(self) -> None:
        """End the rig."""
        rig, self._rig = self._rig, None
        if rig is not None:
            rig.close()
