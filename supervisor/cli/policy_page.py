# SPDX-License-Identifier: Apache-2.0
"""Owns how `policy show WORKER` looks: all that one kind may do, each grant followed by its reason. Pure."""

import textwrap
from typing import TYPE_CHECKING

from policy.call_numbers import is_here
from policy.items import items
from supervisor.cli.policy_diff import lines as difference_lines
from supervisor.cli.table import duration

if TYPE_CHECKING:
    from policy.edition import Stage
    from policy.in_force import InForce
    from policy.profile import Profile

MARGIN = 14
ACCESS = {
    "ro": "read",
    "rx": "read, run",
    "rw": "read, write, make, remove",
    "remove": "list, remove",
    "tools": "all but making devices",
    "channel": "connect to its socket",
}
OTHERWISE = {"kill": "any other kills it", "enosys": "any other is answered: no such call"}


def page(policy: "InForce", kind: str, width: int) -> list[str]:
    """What to print, each line at most `width` columns wide unless a word is longer."""
    profile = policy.edition.profiles[kind]
    text = _Text(width)
    text.paragraph(f"{kind}: {profile.why}", "")
    for write in (_identity, _capabilities, _namespaces, _files, _sockets):
        write(text, profile)
    _calls(text, profile, policy.edition.stages[kind])
    for write in (_programs, _requests, _limits, _held, _lifetime):
        write(text, profile)
    if changes := policy.of(kind):
        text.lines += ["", "Changed by overrides:", *list(difference_lines(changes, width))[1:]]
    return text.lines


class _Text:
    """Lines being written: a title in the margin, what is granted beside it, its reason below that."""

    def __init__(self, width: int) -> None:
        self.lines: list[str] = []
        self._width = width

    def paragraph(self, text: str, indent: str) -> None:
        self.lines += textwrap.wrap(
            text, self._width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False,
            break_long_words=False,
        )  # fmt: skip

    def section(self, title: str, granted: str, why: str = "") -> None:
        self.lines.append("")
        indent = " " * MARGIN
        start = len(self.lines)
        self.paragraph(granted, indent)
        self.lines[start] = f"{title:{MARGIN}}" + self.lines[start][MARGIN:]
        self.reason(why)

    def entry(self, granted: str, why: str = "") -> None:
        self.paragraph(granted, " " * MARGIN)
        self.reason(why)

    def reason(self, why: str) -> None:
        if why:
            self.paragraph(why, " " * (MARGIN + 4))


def _identity(text: _Text, profile: "Profile") -> None:
    identity = profile.identity
    last = identity.uid + identity.count - 1
    uids = f"uid {identity.uid}" + (f" to {last}, no two at once the same" if last > identity.uid else "")
    text.section("runs as", f"{uids}, its gid the same, in no other group", identity.why)


def _capabilities(text: _Text, profile: "Profile") -> None:
    text.section("capabilities", "none" if not profile.capabilities else "these, and no program gains more:")
    for capability in profile.capabilities:
        text.entry(f"CAP_{capability.name.upper()}", capability.why)
    for capability in profile.start_capabilities:
        text.entry(f"CAP_{capability.name.upper()}, while it starts", capability.why)


def _namespaces(text: _Text, profile: "Profile") -> None:
    new = profile.namespaces.new
    shared = [name for name in ("mount", "uts", "ipc", "net", "cgroup", "pid", "user") if name not in new]
    words = f"its own: {', '.join(new) or 'none'}"
    text.section("namespaces", f"{words}; the host's: {', '.join(shared) or 'none'}", profile.namespaces.why)


def _files(text: _Text, profile: "Profile") -> None:
    own = "a root of its own with nothing in it but:" if profile.view == "own" else "of the host's files only:"
    text.section("files", own if profile.paths else "none")
    for grant in profile.paths:
        until = "; until provisioning is over" if grant.until == "steady" else ""
        text.entry(f"{grant.path}: {ACCESS[grant.access]}{until}", grant.why)
    but = ", but for what is named" if profile.start == "exec" and profile.lifetime.kind == "resident" else ""
    for path in profile.hidden:
        text.entry(f"{path}: covered by an empty folder{but}")


def _sockets(text: _Text, profile: "Profile") -> None:
    families = [item.text(name) for name, item in items("families", profile).items()]
    text.section(
        "sockets", f"it makes only: {', '.join(families)}" if families else "it makes none", profile.families.why
    )


def _calls(text: _Text, profile: "Profile", stages: "tuple[Stage, Stage]") -> None:
    startup, locked = stages
    here = [sum(map(is_here, stage.calls)) for stage in stages]
    text.section(
        "system calls",
        f"{here[1]} while it works, {OTHERWISE[locked.otherwise]}; {here[0]} at its start",
        profile.locked_calls.why,
    )
    by_why: dict[str, list[str]] = {}
    for name, call in sorted(locked.calls.items()):
        if is_here(name):
            by_why.setdefault(call.why, []).append(name + ("*" if call.judged else ""))
    for why, names in sorted(by_why.items(), key=lambda pair: -len(pair[1])):
        text.entry(", ".join(names), why)
    if any(call.judged for call in locked.calls.values()):
        text.entry("*: only with some values of an argument")
    more = [name for name in sorted(startup.calls) if name not in locked.calls and is_here(name)]
    if more:
        text.entry(f"besides, at its start: {', '.join(more)}", profile.startup_calls.why)


def _programs(text: _Text, profile: "Profile") -> None:
    if profile.programs:
        text.section("programs", f"none itself; it asks {profile.programs}, started beside it")
    elif profile.runs:
        text.section("programs", "only these, as its worker asks for them:")
        for program in profile.runs:
            text.entry(program.name, program.why)


def _requests(text: _Text, profile: "Profile") -> None:
    text.section("may send", "nothing" if not profile.requests else "the supervisor only:")
    entries = items("requests", profile)
    by_why: dict[str, list[str]] = {}
    for name, item in entries.items():
        by_why.setdefault(item.why, []).append(item.text(name))
    for why, names in by_why.items():
        text.entry(", ".join(names), why)


def _limits(text: _Text, profile: "Profile") -> None:
    limits = profile.limits
    words = (
        f"{limits.memory_mib} MiB of memory, {limits.pids} processes and threads, {limits.cpu_percent} % of one "
        f"processor, {limits.open_files} open files, files of {limits.file_size_mib} MiB"
    )
    text.section("limits", words, limits.why)


def _held(text: _Text, profile: "Profile") -> None:
    text.section("holds open", ", ".join(profile.descriptors.types) or "nothing", profile.descriptors.why)


def _lifetime(text: _Text, profile: "Profile") -> None:
    life = profile.lifetime
    jobs = "one job" if life.jobs == 1 else f"up to {life.jobs} jobs for one and the same"
    one_shot = f"{jobs}, ended after {duration(life.deadline_s)}"
    words = (
        one_shot
        if life.kind == "one-shot"
        else f"as long as the service, silent for {duration(life.deadline_s)} at most"
    )
    text.section("lives", f"{words}; at most {life.instances} at once", life.why)
