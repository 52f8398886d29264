# SPDX-License-Identifier: Apache-2.0
"""Owns how `policy show` looks without a name: every kind of process in one line, on one screen. Pure."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from policy import extension_rules
from policy.call_numbers import is_here
from policy.extensions import WITHOUT
from policy.grants import told
from supervisor.cli.table import duration

if TYPE_CHECKING:
    from policy.in_force import InForce
    from policy.profile import Profile

NARROWEST = 80
HEAD = ("KIND", "UID", "NEW NS", "SOCK", "CALLS", "RUNS", "ASKS", "LIVES", "CAPABILITIES")
ALIGNED = "<><<>>>><"
NAMESPACES = {"mount": "m", "uts": "u", "ipc": "i", "net": "n", "cgroup": "c", "pid": "p", "user": "U"}
FAMILIES = {"unix": "u", "netlink": "n", "inet": "4", "inet6": "6"}
LEGEND = (
    "NEW NS: m mount (M: with a view of its own, m: the host's tree), u uts, i ipc, n net,",
    "c cgroup, p pid, U user; the others are the host's.",
    "SOCK: sockets it may make: u unix, n netlink, 4 and 6 internet. CALLS: system calls",
    "while it works. RUNS: programs; -> its companion does. ASKS: messages it may send.",
    "All of one, with the reasons: agent-supervisor policy show KIND",
)
# Of vendors' extensions, as shipped.
SHIPPED = "Extensions: allowed, in class compat, signed or not, with no limits but those of their manifests, without"


def table(policy: "InForce", width: int) -> list[str]:
    """What to print; each line at most `width` (at least 80) columns wide."""
    width = max(width, NARROWEST)
    profiles = policy.edition.profiles
    changed = {change.kind for _, change in policy.changes}
    rows = [HEAD, *(_cells(policy, profiles[kind], kind in changed) for kind in sorted(profiles))]
    rows[0] = (*HEAD[:-1], "")
    widths = [max(len(row[index]) for row in rows) for index in range(len(HEAD) - 1)]
    gap = "  " if sum(widths) + 2 * len(widths) + 30 <= width else " "
    room = width - sum(widths) - len(gap) * len(widths)
    lines = []
    for row in rows:
        cells = [f"{row[index]:{ALIGNED[index]}{widths[index]}}" for index in range(len(widths))]
        lines.append(gap.join((*cells, _few(row[-1], room) if row[-1] else HEAD[-1])).rstrip())
    legend = [*LEGEND, *(["*: changed by overrides (agent-supervisor policy diff)"] if changed else [])]
    if policy.required:
        demanded = f"Overrides demand level {policy.min_level} of this machine: {', '.join(policy.required)}."
        legend += textwrap.wrap(demanded, width, break_on_hyphens=False)
    for grant in policy.wireserver:
        granted = f"Overrides grant of the WireServer: {told(grant)}, in {grant.cgroup}. {grant.why}"
        legend += textwrap.wrap(granted, width, subsequent_indent="  ", break_on_hyphens=False)
    return [*lines, "", *legend, "", *_extensions(policy, width)]


def _extensions(policy: "InForce", width: int) -> list[str]:
    """What is said of vendors' extensions, none and all."""
    shipped = f"{SHIPPED} {', '.join(WITHOUT)}."
    said = [shipped] + ["But, by overrides; each key counts from the longest name that fits:"] * bool(policy.extensions)
    for rule in sorted(policy.extensions, key=lambda rule: (-len(rule.name), rule.name)):
        said.append(f"{extension_rules.told(rule)} ({rule.file}). {rule.why}")
    return [
        line
        for sentence in said
        for line in textwrap.wrap(sentence, width, subsequent_indent="  ", break_on_hyphens=False)
    ]


def _cells(policy: "InForce", profile: "Profile", changed: bool) -> Sequence[str]:
    locked = policy.edition.stages[profile.kind][1]
    life = profile.lifetime
    runs = "->" if profile.programs else str(len(profile.runs)) if profile.runs else "-"
    if not profile.runs and "execve" in locked.calls:
        runs = "any"
    return (
        profile.kind + ("*" if changed else ""),
        str(profile.identity.uid),
        _namespaces(profile),
        "".join(letter if name in profile.families.names else "-" for name, letter in FAMILIES.items()),
        str(sum(map(is_here, locked.calls))),
        runs,
        str(len({request.message for request in profile.requests})),
        "always" if life.kind == "resident" else duration(life.deadline_s),
        ",".join(sorted(profile.capability_names)) or "none",
    )


def _namespaces(profile: "Profile") -> str:
    letters = {**NAMESPACES, "mount": "M"} if profile.view == "own" else NAMESPACES
    return "".join(letter if name in profile.namespaces.new else "-" for name, letter in letters.items())


def _few(names: str, room: int) -> str:
    """The names that fit, and how many more there are."""
    if len(names) <= room:
        return names
    every = names.split(",")
    for shown in range(len(every) - 1, 0, -1):
        text = f"{','.join(every[:shown])}+{len(every) - shown}"
        if len(text) <= room:
            return text
    return f"{len(every)}"[:room]
