# SPDX-License-Identifier: Apache-2.0
"""Owns the shape of a policy: one frozen Profile a process kind, every privilege with a `why`.

Read by the policy compiler, the spawner, the jail, the verifier and the supervisor; holds data only and does nothing.
"""

from typing import Annotated, Literal

import msgspec

from ipc.messages.extension_rules import ExtensionRule
from ipc.messages.grants import WireGrant

Why = Annotated[str, msgspec.Meta(min_length=10)]
Kind = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9-]{0,30}$")]


DescriptorType = Literal[
    "null", "file", "folder", "device", "unix", "tcp", "other-socket", "memfd", "pipe", "pidfd", "eventfd", "epoll",
    "namespace", "inotify", "bpf-link", "bpf-prog",
]  # fmt: skip

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
    committers, which need all of /etc). until: "steady" for what the supervisor gives up once provisioning is over."""

    path: str
    access: Literal["ro", "rx", "rw", "remove", "channel", "tools"]
    why: Why
    until: Literal["end", "steady"] = "end"


class Calls(_Part, frozen=True):
    """System calls: `groups` from policy/calls/*.toml and single `names`, allowed in the stage `stage`.

    `otherwise` is what any other call meets: "kill" the process, or "enosys" for programs that probe and fall back.
    `children`: besides, whatever any other kind may call at its start, because its children inherit the list.
    `without`: calls taken out of all that (by overrides)."""

    groups: tuple[str, ...]
    names: tuple[str, ...]
    why: Why
    otherwise: Literal["kill", "enosys"] = "kill"
    children: bool = False
    without: tuple[str, ...] = ()


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


class Families(_Part, frozen=True):
    """Socket families that `socket` may be asked for, in both stages; none: no socket is made, at most inherited.

    connect_ports: with the host's network, the only TCP ports that it connects to; none named: no limit. handed: of
    sockets that it may not make, and is given by others."""

    names: tuple[Literal["unix", "inet", "inet6", "netlink"], ...]
    why: Why
    connect_ports: tuple[Annotated[int, msgspec.Meta(ge=1, le=65535)], ...] = ()
    handed: tuple[Literal["inet", "netlink"], ...] = ()


class Descriptors(_Part, frozen=True):
    """What the process may hold open: types as /proc shows them, for whoever looks from outside.

    "null" /dev/null, "file" and "folder" of a file system, "device" any other node, "unix", "tcp", "other-socket"
    sockets, "memfd", "pipe", "pidfd", "eventfd", "epoll", "namespace", "inotify"; "bpf-prog" a program of
    the kernel's, "bpf-link" what keeps one attached."""

    types: tuple[DescriptorType, ...]
    why: Why


class Request(_Part, frozen=True):
    """A message that the process may send, in which phase, whether only once, and after which other one of its own."""

    message: str
    phase: Literal["boot", "provisioning", "steady"]
    why: Why
    once: bool = False
    after: str = ""


class Program(_Part, frozen=True):
    """A program that a companion may run, by its name: it is looked for in the system's own folders."""

    name: Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9.-]{0,63}$")]
    why: Why


class Lifetime(_Part, frozen=True):
    """one-shot: one job, or up to `jobs` of one errand, and exit; killed when one takes `deadline_s`. resident: until
    stopped, or until it has done enough; the service's own two answer the watchdog in `deadline_s`."""

    kind: Literal["one-shot", "resident"]
    deadline_s: Annotated[float, msgspec.Meta(gt=0)]
    instances: Annotated[int, msgspec.Meta(ge=1, le=64)]
    why: Why
    jobs: Annotated[int, msgspec.Meta(ge=1, le=8)] = 1


class Profile(_Part, frozen=True):
    """All that one kind of process is and may do. `module` has `main(channel, lock)` (workers) or is exec'd.

    start: "fork" from the spawner; "exec" a fresh interpreter in the same confinement, with an address space layout of
    its own. transport: "zmq" a PAIR of its own with a packet socket beside it, or "packet" that socket alone.
    view: "own" pivots into an empty root that holds only `paths`; "host" keeps the host's mount tree.
    preload: modules imported before confinement, because nothing can be read from disk after it.
    hidden: with the host's view and a mount namespace of its own, folders over which nothing is laid, mode 0; of the
    supervisor's, all that `paths` does not name in them.
    start_capabilities: beyond `capabilities`, until the second filter is loaded; for what starts by itself, no worker.
    programs: the kind that runs programs for this one, started by the spawner beside it, with a list of its own: its
    companion. runs: with a companion, the programs that it may run."""

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
    families: Families
    descriptors: Descriptors
    capabilities: tuple[Capability, ...] = ()
    paths: tuple[PathGrant, ...] = ()
    requests: tuple[Request, ...] = ()
    preload: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    start_capabilities: tuple[Capability, ...] = ()
    programs: str = ""
    runs: tuple[Program, ...] = ()

    @property
    def is_companion(self) -> bool:
        """Whether it is started only beside another one, for which it runs programs."""
        return self.module.startswith("workers.programs.")

    @property
    def is_worker(self) -> bool:
        """Whether the supervisor may have it started."""
        return self.module.startswith(("workers.", "supervisor.v")) and not self.is_companion

    @property
    def changes_machine(self) -> bool:
        """Whether it is a committer: one that acts on the host's own files, and should not be ended in the act."""
        return self.view == "host" and self.module.startswith("workers.")

    @property
    def ambient_names(self) -> frozenset[str]:
        """Capabilities that a program which it starts keeps: none where none is started."""
        return self.capability_names if self.is_companion else frozenset()

    @property
    def capability_names(self) -> frozenset[str]:
        """Those that it holds for as long as it works."""
        return frozenset(capability.name for capability in self.capabilities)

    @property
    def start_capability_names(self) -> frozenset[str]:
        """Those that it begins with."""
        return self.capability_names | {capability.name for capability in self.start_capabilities}


class Compiled(_Part, frozen=True):
    """A profile and its two system-call programs (struct sock_filter arrays, native byte order)."""

    profile: Profile
    startup_filter: bytes
    locked_filter: bytes


class Origin(_Part, frozen=True):
    """Where a policy comes from: override `files` by name, the fingerprint of the key that signed them (`signer`, empty
    if none was asked for), whether they could loosen, by what they did (`loosened`), and the paths that they name anew
    (`granted`)."""

    files: tuple[str, ...] = ()
    signer: str = ""
    may_loosen: bool = False
    loosened: tuple[str, ...] = ()
    granted: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """For people."""
        files = f"as shipped, with {', '.join(self.files)}" if self.files else "as shipped"
        signed = f"; signed with the key {self.signer}" if self.signer else ""
        loosened = f"; loosened: {', '.join(self.loosened)}" if self.loosened else ""
        return f"{files}{signed}{loosened}"


SERVING_GRANTS = frozenset({"redirect", "redirect-programs", "forwarder"})


class CompiledPolicy(_Part, frozen=True):
    """Everything the spawner loads: `digest` (hex SHA-256) is over the TOML sources it was made from, overrides
    included. `min_level` is a level's name (policy.level), `required` the mechanisms without which no worker starts.
    `wireserver`: what handlers may ask the WireServer for; `extensions`: rules about these; none is shipped."""

    digest: str
    machine: str
    programs: tuple[Compiled, ...]
    origin: Origin = Origin()
    min_level: str = "basic"
    required: tuple[str, ...] = ()
    wireserver: tuple[WireGrant, ...] = ()
    extensions: tuple[ExtensionRule, ...] = ()

    @property
    def by_kind(self) -> dict[str, Compiled]:
        """What the spawner may start, by kind: nothing that serves grants where there is none."""
        unneeded = frozenset[str]() if self.wireserver else SERVING_GRANTS
        return {each.profile.kind: each for each in self.programs if each.profile.kind not in unneeded}
