# SPDX-License-Identifier: Apache-2.0
"""Owns what a unit of a kind may claim: its profile, what it may call while it works, and which mechanisms hold it.

Pure. A claim is made only of what the jail enforces; where a profile names more than that, the profile is not believed.
"""

import msgspec

from policy.groups import CallSet
from policy.lint import RESIDENT
from policy.profile import PathGrant, Profile

READING = frozenset({"ro", "rx", "rw", "tools"})
WRITING = frozenset({"rw", "tools", "remove"})
RUNNING = frozenset({"rx", "tools"})
# Landlock judges none of these, a read-only mount all of them.
CHANGES_OF_MODE = frozenset(
    "chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat setxattr lsetxattr fsetxattr utime utimes "
    "utimensat futimesat".split()
)


class Facts(msgspec.Struct, frozen=True):
    """One kind. `profile` has its paths' placeholders filled in; `calls` is the locked stage, in which input is read.

    `landlock`: reads, writes, makes and runs files as its paths say and nowhere else. `sealed`: all mounts are
    read-only but for the paths that may be written. `locked`: no new privileges, secure bits locked, umask and resource
    limits set. `mdwe`: the kernel refuses to make memory executable."""

    profile: Profile
    calls: CallSet
    landlock: bool
    sealed: bool
    locked: bool
    mdwe: bool

    @property
    def own_view(self) -> bool:
        """Whether nothing exists for it but what its paths name."""
        return self.profile.view == "own"

    @property
    def is_resident(self) -> bool:
        """Whether it is of the service itself: of what it hides it sees what its paths name."""
        return self.profile.kind in RESIDENT

    @property
    def is_root(self) -> bool:
        """Whether it works as uid 0."""
        return self.profile.identity.uid == 0

    @property
    def by_view(self) -> str:
        """How a file that it can't reach is kept from it."""
        return "Nothing else is in its view" if self.own_view else "Landlock: no path grants it"

    def may(self, *names: str) -> bool:
        """Whether any of these calls can succeed while it works."""
        return not self.calls.reachable.isdisjoint(names)

    def has(self, *capabilities: str) -> bool:
        """Whether it holds any of these capabilities while it works."""
        return not self.profile.capability_names.isdisjoint(capabilities)

    def reads(self, *paths: str) -> bool:
        """Whether anything at or below any of `paths` can be opened for reading."""
        return self._reaches(READING, paths)

    def writes(self, *paths: str) -> bool:
        """Whether anything at or below any of `paths` can be written, made or removed."""
        return self._reaches(WRITING, paths)

    def touches(self, *paths: str) -> bool:
        """Whether `paths` can be read, written, or have modes and owners changed."""
        return self.reads(*paths) or self.writes(*paths) or self.changes_modes(*paths)

    def changes_modes(self, *paths: str) -> bool:
        """Whether modes, owners or labels at or below `paths` can be changed."""
        kept = self.own_view or self.sealed
        return self.writes(*paths) if kept else self.may(*CHANGES_OF_MODE)

    def sees_processes(self) -> bool:
        """Whether it can look at others' folders in /proc; its own, /proc/self, is nobody else's."""
        others = [grant for grant in self.profile.paths if not _within(grant.path, "/proc/self")]
        rest = msgspec.structs.replace(self, profile=msgspec.structs.replace(self.profile, paths=tuple(others)))
        return rest.reads("/proc")

    def granted(self, access: frozenset[str]) -> tuple[str, ...]:
        """The paths that it has with one of these accesses, sorted."""
        return tuple(sorted({grant.path for grant in self.profile.paths if grant.access in access}))

    def _reaches(self, access: frozenset[str], paths: tuple[str, ...]) -> bool:
        if not (self.landlock or self.own_view or (self.sealed and access <= WRITING)):
            return True
        grants = [grant for grant in self.profile.paths if grant.access in access]
        return any(_meet(grant, path) for grant in grants for path in paths)


def facts_of(profile: Profile, calls: CallSet) -> Facts:
    """What holds a process of this kind: the spawner's own jail for workers, less for the service's two processes."""
    worker = profile.kind not in RESIDENT
    spawner = profile.locked_calls.children
    host_tree = profile.view == "host"
    return Facts(
        profile,
        calls,
        # Whoever inspects other processes can't be under Landlock, and whoever mounts for its children neither.
        landlock=not spawner and "sys_ptrace" not in profile.capability_names,
        sealed=not spawner and host_tree and "mount" in profile.namespaces.new and not _writes_all(profile),
        locked=not spawner,
        mdwe=worker,
    )


def _writes_all(profile: Profile) -> bool:
    return any(grant.path == "/" and grant.access in WRITING for grant in profile.paths)


def _meet(grant: PathGrant, path: str) -> bool:
    """Whether one of the two lies in the other."""
    return _within(grant.path, path) or _within(path, grant.path)


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder.rstrip('/')}/")
