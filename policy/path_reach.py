# SPDX-License-Identifier: Apache-2.0
"""Owns what grants of paths add up to at any place of the file system, as mounts and Landlock take them.

Pure, by names alone: where a name is a link, what it leads to is not known here (the spawner looks at that).
"""

from collections.abc import Iterable, Iterator, Sequence

from policy.profile import PathGrant, Profile

RIGHTS = {
    "ro": ("list", "read"),
    "rx": ("list", "read", "execute"),
    "rw": ("list", "read", "write", "remove"),
    "remove": ("list", "remove"),
    "tools": ("list", "read", "execute", "write", "remove", "special files"),
    "channel": ("channel",),
}
WRITING = frozenset({"rw", "tools", "remove"})
_RUN = "/run"

# (what is done, until when)
Rights = frozenset[tuple[str, str]]


def wider_paths(shipped: Profile, merged: Profile) -> Iterator[str]:
    """Each place where `merged` does what `shipped` does not.

    Rights change only at a named path, so looking at each one that either names is looking everywhere."""
    for path in sorted({grant.path for profile in (shipped, merged) for grant in profile.paths}):
        more = _rights_at(path, merged) - _rights_at(path, shipped)
        if more:
            yield f"paths: {path}: {', '.join(sorted({right for right, _ in more}))}"


def covers(above: str, path: str) -> bool:
    """Whether `path` is `above` or lies in it; a placeholder lies in nothing."""
    return path == above or path.startswith(f"{above.rstrip('/')}/")


def _rights_at(path: str, profile: Profile) -> Rights:
    if profile.view == "host":
        return _together(grant for grant in profile.paths if _shows(grant, path))
    covering = [grant for grant in profile.paths if covers(grant.path, path)]
    if not covering and path.startswith("$"):
        # Wherever that is, one of the other grants may hold it: a narrower mount on top of a wider one is gone then.
        covering = [grant for grant in profile.paths if grant.access != "channel"]
        return _together(covering)
    deepest = max((len(grant.path) for grant in covering), default=0)
    return _together((grant for grant in covering if len(grant.path) == deepest), own_proc=True)


def _shows(grant: PathGrant, path: str) -> bool:
    """In the host's view /run is empty but for grants in it, unless all may be written (jail.sealed_tree)."""
    hidden = covers(_RUN, path) and not covers(_RUN, grant.path) and grant.access not in WRITING
    return covers(grant.path, path) and not hidden


def _together(grants: Iterable[PathGrant] | Sequence[PathGrant], *, own_proc: bool = False) -> Rights:
    rights = set()
    for grant in grants:
        names = [*RIGHTS[grant.access]]
        if own_proc and grant.path == "/proc":
            # In a view of its own that is another file system than what lies there in the host's.
            names.append("the process's own /proc")
        for name in names:
            rights.add((name, "provisioning"))
            if grant.until == "end":
                rights.add((name, "steady"))
    return frozenset(rights)
