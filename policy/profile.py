# SPDX-License-Identifier: Apache-2.0
"""Owns the shape of a policy: one frozen Profile a process kind, every privilege with a `why`.

Read by the policy compiler, the spawner, the jail, the verifier and the supervisor; holds data only and does nothing.
"""

from typing import Annotated, Literal

import msgspec

Why = Annotated[str, msgspec.Meta(min_length=10)]
Kind = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9-]{0,30}$")]


# Every worker's uid that is not root's is one of these (docs/decisions/0004); nobody else may have one.
WORKER_UIDS = range(60710, 61184)


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of all parts of a profile."""


class Identity(_Part, frozen=True):
    """Who the process is. `uid` 0 is root; else instances take uid, uid+1, ... below uid+`count`, gid the same."""

    uid: Annotated[int, msgspec.Meta(ge=0, le=61183)]
    why: Why
    count: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1


class Capability(_Part, frozen=True):
    """One capability kept, by its kernel name without CAP_, lower case."""

    name: Annotated[str, msgspec.Meta(pattern="^[a-z_]+$")]
    why: Why


class Namespaces(_Part, frozen=True):
    """Namespaces made new for the process. What is not named is the host's, and needs to be said in `why`."""

    new: tuple[Literal["mount", "uts", "ipc", "net", "cgroup", "pid", "user"], ...]
    why: Why


class PathGrant(_Part, frozen=True):
    """One path in the process's view. With a new root (`view` below) it is all that exists there.

    access: "ro" read; "rx" read and execute; "rw" read, write, create, remove; "remove" list and remove, with the
    host's view; "channel" the worker's own socket folder; "tools" everything but making device nodes (for account
    committers, which need all of /etc)."""

    path: str
    access: Literal["ro", "rx", "rw", "remove", "channel", "tools"]
    why: Why


class Calls(_Part, frozen=True):
    """System calls: `groups` from policy/calls/*.toml and single `names`, allowed in the stage `stage`.

    `otherwise` is what any other call meets: "kill" the process, or "enosys" for programs that probe and fall back."""

    groups: tuple[str, ...]
    names: tuple[str, ...]
    why: Why
    otherwise: Literal["kill", "enosys"] = "kill"


class Limits(_Part, frozen=True):
    """Resource limits: cgroup (memory, pids, cpu share of one core) and rlimits (files, file size, address space).

    `cpu_weight` counts only while others want the processor, too: 100 is everybody's, 1000 is ten times that."""

    memory_mib: Annotated[int, msgspec.Meta(ge=8)]
    pids: Annotated[int, msgspec.Meta(ge=1)]
    cpu_percent: Annotated[int, msgspec.Meta(ge=1, le=800)]
    open_files: Annotated[int, msgspec.Meta(ge=8)]
    file_size_mib: Annotated[int, msgspec.Meta(ge=0)]
    why: Why
    cpu_weight: Annotated[int, msgspec.Meta(ge=1, le=10000)] = 100


class Request(_Part, frozen=True):
    """A message that the process may send, in which phase, and whether only once."""

    message: str
    phase: Literal["boot", "provisioning", "steady"]
    why: Why
    once: bool = False


class Lifetime(_Part, frozen=True):
    """one-shot: one job and exit, killed after `deadline_s`; resident: until stopped, answers pings in `deadline_s`."""

    kind: Literal["one-shot", "resident"]
    deadline_s: Annotated[float, msgspec.Meta(gt=0)]
    instances: Annotated[int, msgspec.Meta(ge=1, le=64)]
    why: Why


class Profile(_Part, frozen=True):
    """All that one kind of process is and may do. `module` has `main(channel, lock)` (workers) or is exec'd.

    start: "fork" from the spawner; "exec" a fresh interpreter in the same confinement, with an address space layout of
    its own. transport: "zmq" a PAIR of its own with a packet socket beside it, or "packet" that socket alone.
    view: "own" pivots into an empty root that holds only `paths`; "host" keeps the host's mount tree.
    preload: modules imported before confinement, because nothing can be read from disk after it.
    hidden: with the host's view and a mount namespace of its own, folders over which nothing is laid, mode 0."""

    kind: Kind
    module: str
    why: Why
    start: Literal["fork", "exec"]
    transport: Literal["zmq", "packet"]
    view: Literal["own", "host"]
    identity: Identity
    namespaces: Namespaces
    startup_calls: Calls
    locked_calls: Calls
    limits: Limits
    lifetime: Lifetime
    capabilities: tuple[Capability, ...] = ()
    paths: tuple[PathGrant, ...] = ()
    requests: tuple[Request, ...] = ()
    preload: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()

    @property
    def changes_machine(self) -> bool:
        """Whether it is a committer: one that acts on the host's own files, and should not be ended in the act."""
        return self.view == "host" and self.module.startswith("workers.")

    @property
    def capability_names(self) -> frozenset[str]:
        return frozenset(capability.name for capability in self.capabilities)


class Compiled(_Part, frozen=True):
    """A profile and its two system-call programs (struct sock_filter arrays, native byte order)."""

    profile: Profile
    startup_filter: bytes
    locked_filter: bytes


class CompiledPolicy(_Part, frozen=True):
    """Everything the spawner loads: `digest` (hex SHA-256) is over the TOML sources it was made from."""

    digest: str
    machine: str
    programs: tuple[Compiled, ...]
