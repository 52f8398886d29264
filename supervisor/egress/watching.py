# SPDX-License-Identifier: Apache-2.0
"""Owns how it is noticed that the loaded rule was changed: the kernel tells, or an outsider's way to it is tried.

Runs in the supervisor. Which of these there is depends on the mechanism, and on what the rule lets through.
"""

import os
from collections.abc import Callable

from ipc.messages import Rule
from policy.egress import MARK, TABLE
from supervisor.egress.events import Watch
from supervisor.egress.loading import Loaded
from supervisor.egress.look import Look
from supervisor.loop import Loop

# Between two looks at a rule by iptables: of the older kind's nothing tells, and it has to be back within a second; of
# the newer's all is told, but for whoever puts a rule in front of ours.
LOOK_S, LOOK_BESIDES_S = 0.7, 5.0
NOBODY_KNOWS = "somebody, between two looks"
UNSEEN = "nothing tells when it is changed: it is looked at after each OS.EnableFirewallPeriod"


class Watching:
    """Of one rule after the other: `begin` when it is loaded, `end` before the next. `changed` is called with who."""

    def __init__(self, loop: Loop, changed: Callable[[str], None]) -> None:
        self._loop = loop
        self._changed = changed
        self._watch: Watch | None = None
        self._look: Look | None = None

    def begin(self, loaded: Loaded, rule: Rule) -> Loaded:
        """From now on what becomes of it is heard, or looked at; `loaded` again, which says where neither can be. Its
        descriptors are this object's."""
        by_nft = rule.mechanism != "iptables"
        if loaded.deaf:
            os.close(loaded.told)
        else:
            self._watch = Watch(self._loop, loaded.told, TABLE if by_nft else MARK, self._changed)
        # Who is let through, or is kept from trying, shows nothing.
        if by_nft or rule.mode == "observe" or rule.root_is_guest or loaded.untried:
            loaded.canary.close()
            unseen = loaded.deaf and not loaded.untried
            return loaded._replace(lacking="; ".join(filter(None, (loaded.lacking, UNSEEN)))) if unseen else loaded
        every_s = LOOK_S if loaded.deaf else LOOK_BESIDES_S
        self._look = Look(self._loop, loaded.canary, every_s, lambda: self._changed(NOBODY_KNOWS))
        return loaded

    def end(self) -> None:
        """Notice nothing more of what was loaded."""
        if self._watch is not None:
            self._watch.close()
        if self._look is not None:
            self._look.close()

    def sees_it_gone(self) -> bool:
        """Whether a look shows just now that the rule is not what was loaded."""
        return self._look is not None and self._look.passes()
