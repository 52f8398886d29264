# SPDX-License-Identifier: Apache-2.0
"""Owns the ranges of subordinate ids that a new account gets where the system has them: useradd's last lines of all.

Runs in the account committer. Pure: it reads what it is given, and says what usermod has to add.
"""

from collections.abc import Mapping

from workers.committers.account_files import SUBGID, SUBUID, Snapshot, entry

# useradd's own, where login.defs says nothing: first id, last id, how many.
FALLBACK = (100_000, 600_100_000, 65_536)
SETTINGS = {SUBUID: "SUB_UID", SUBGID: "SUB_GID"}
OPTIONS = {SUBUID: "--add-subuids", SUBGID: "--add-subgids"}


def missing_ranges(now: Snapshot, has_file: Mapping[str, bool], settings: str, name: str) -> list[str]:
    """Options for usermod that give account `name` what useradd would have; `settings` is the text of login.defs.

    None for a kind of id whose file the system lacks, or of which login.defs gives none to anybody."""
    options: list[str] = []
    for path, prefix in SETTINGS.items():
        if has_file[path] and entry(now, path, name) is None:
            first, last, count = _limits(settings, prefix)
            start = _free(now[path], first, count)
            if count > 0 and start + count - 1 <= last:
                options += [OPTIONS[path], f"{start}-{start + count - 1}"]
    return options


def _limits(settings: str, prefix: str) -> tuple[int, int, int]:
    found = dict(words[:2] for line in settings.splitlines() if len(words := line.split()) >= 2)
    texts = [found.get(f"{prefix}_{end}", "") for end in ("MIN", "MAX", "COUNT")]
    first, last, count = (int(text) if text.isdecimal() else other for text, other in zip(texts, FALLBACK, strict=True))
    return first, last, count


def _free(lines: tuple[str, ...], first: int, count: int) -> int:
    """The lowest start from `first` on at which `count` ids are nobody's."""
    fields = [line.split(":") for line in lines]
    taken = sorted(
        (int(one[1]), int(one[2])) for one in fields if len(one) == 3 and one[1].isdecimal() and one[2].isdecimal()
    )
    start = first
    for begins, size in taken:
        if begins - start >= count:
            break
        start = max(start, begins + size)
    return start
