# SPDX-License-Identifier: Apache-2.0
"""Owns what the files of the account database are without one account. Pure; runs in the jit-account committer.

The line in passwd is the last to go, and by itself: as long as it is there, a removal that was cut short is known, and
whose uid it is about.
"""

from workers.committers.account_files import GROUP, GSHADOW, PASSWD, SHADOW, SUBGID, SUBUID

# In this order; with the shadow line nobody can log in any more.
FIRST = (SHADOW, SUBUID, SUBGID, GSHADOW, GROUP)
LAST = PASSWD
# Of a group: the fields that list accounts.
MEMBERS = {GROUP: (3,), GSHADOW: (2, 3)}


def without(path: str, content: bytes, name: str, *, group: bool) -> bytes:
    """The file `path` without the lines of account `name`, and of groups without it as a member; all else stays as it
    is, byte by byte. `group`: the group of that name goes, too."""
    lines = content.decode("latin-1").split("\n")
    if path not in MEMBERS:
        kept = [line for line in lines if line.partition(":")[0] != name]
    else:
        kept = [_left(line, name, MEMBERS[path]) for line in lines if not (group and line.partition(":")[0] == name)]
    return "\n".join(kept).encode("latin-1")


def _left(line: str, name: str, places: tuple[int, ...]) -> str:
    fields = line.split(":")
    for place in places:
        members = fields[place].split(",") if place < len(fields) else []
        if name in members:
            fields[place] = ",".join(member for member in members if member != name)
    return ":".join(fields)


def with_day(_: str, content: bytes, name: str, *, day: int) -> bytes:
    """The shadow file with the day from which on nobody can log in as `name`; as it is if there is no whole line."""
    lines = [line.split(":") for line in content.decode("latin-1").split("\n")]
    for fields in lines:
        if fields[0] == name and len(fields) == 9:
            fields[7] = str(day)
    return "\n".join(map(":".join, lines)).encode("latin-1")


def has_own_group(passwd: tuple[str, ...], groups: tuple[str, ...], name: str, gid: str) -> bool:
    """Whether the group `name` is the account's alone: its gid, nobody else's primary group, no member but itself."""
    own = next((line.split(":") for line in groups if line.partition(":")[0] == name), [])
    others = [line.split(":") for line in passwd if line.partition(":")[0] != name]
    members = {*own[3].split(",")} - {"", name} if len(own) == 4 else {"?"}
    return own[2:3] == [gid] and not members and all(fields[3:4] != [gid] for fields in others)
