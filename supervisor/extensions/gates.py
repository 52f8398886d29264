# SPDX-License-Identifier: Apache-2.0
"""Owns what keeps an extension's turn from being taken, in this order (extensions.md 4): the configuration, the policy,
what it depends on, and what is wrong with it in the goal state. Runs in the supervisor; it touches nothing.
"""

from collections.abc import Callable, Iterable

from ipc.messages.extension_rules import ExtensionRule, HandlerVerb
from supervisor.extensions import naming
from supervisor.extensions.next_step import OTHER
from supervisor.extensions.operations import VERBS
from supervisor.extensions.ordering import KINDS, Item
from supervisor.extensions.procedure import Outcome
from supervisor.extensions.refused import switched_off
from supervisor.extensions.ruling import Ruling, Waagent, rule


class Gates:
    """Of all extensions. `waagent` gives what waagent's policy file says now."""

    def __init__(
        self, rules: Iterable[ExtensionRule], waagent: Callable[[], Waagent], *, extensions_enabled: bool
    ) -> None:
        self._rules = tuple(rules)
        self._waagent = waagent
        self._extensions_enabled = extensions_enabled

    def rule(self, handler: str, version: str, verb: HandlerVerb) -> Ruling:
        """Whether `verb` may be carried out, and how."""
        ruling = rule(handler, version, verb, self._rules, self._waagent())
        return ruling if self._extensions_enabled else switched_off(verb, ruling)

    def refusal(self, item: Item, failed: str) -> Outcome | None:
        """Why it is not this one's turn, None if it is; `failed` is what went wrong with one that it depends on."""
        plugin = item.plugin
        ruling = self.rule(plugin.name, plugin.version, VERBS[item.kind])
        if not ruling.allowed:
            return Outcome(ruling.code, ruling.why, is_refused=True)
        if failed:
            return Outcome(OTHER, f"not carried out: {failed}", is_refused=True)
        problem = item.problem or _problem(item)
        return Outcome(OTHER, f"not carried out: {problem}", is_refused=True) if problem else None


def _problem(item: Item) -> str:
    """What can't be, whatever the goal state's reader has made of it."""
    plugin = item.plugin
    if plugin.state not in KINDS:
        return f"its state is {plugin.state!r}: expected one of {', '.join(KINDS)}"
    if item.kind == "enable" and not naming.is_version(plugin.version):
        return f"{plugin.version[:64]!r} is no version: up to four numbers with dots between them are expected"
    return naming.problem_of_name(plugin.name) or naming.problem_of_extension(item.extension)
