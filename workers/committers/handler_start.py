# SPDX-License-Identifier: Apache-2.0
"""Committer of vendors' commands: has systemd run one, as a unit that is no child of ours, looks at it, has it ended.

Root without a capability. What is run stands in the folder of its number, which this process never looks into: a warden
that systemd starts does.
"""

import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from ipc.channel import Channel
from ipc.descriptors import close_all
from ipc.errors import CommitError
from ipc.messages import (
    AskCommand,
    CommandStanding,
    Committed,
    Containment,
    EndCommand,
    HandlerLimits,
    MakeSlice,
    ServiceLimits,
    StartCommand,
)
from ipc.messages.handler_commands import ORDERS
from workers.committers.tools import Tools
from workers.committers.transient_unit import Shown, Unit
from workers.companion import companion
from workers.runtime import Answer, serve_once

WARDEN = "supervisor.jail.handler_warden"
# The warden ends the command when its time is over, and tells what hung. systemd ends both when it does not.
MARGIN_S = 60
CGROUPS = ("/sys/fs/cgroup/systemd", "/sys/fs/cgroup")
# To give a command an account and its files, to see and end what is left of it. The command has none of them.
OF_WARDEN = ("setuid", "setgid", "setpcap", "kill", "chown", "dac_override", "fowner", "fsetid", "sys_ptrace")
# Besides, to load the programs of an outbound list and to attach them to the command's cgroup, and to take the call for
# that away again. The cgroup must have none of
# systemd's own programs, which let no others in.
OF_OUTBOUND = ("bpf", "net_admin")
WITH_OUTBOUND = ("SystemCallFilter=bpf seccomp", "IPAccounting=no")
# What anybody on the machine may do, and less.
CONTAINED = (
    "NoNewPrivileges=yes",
    "ProtectSystem=strict",
    "ProtectHome=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelLogs=yes",
    "ProtectControlGroups=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "ProtectProc=invisible",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "LockPersonality=yes",
    "KeyringMode=private",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    # By a ring it would get sockets of every family, which no filter of calls sees.
    "SystemCallFilter=~io_uring_setup io_uring_enter io_uring_register",
    "SystemCallErrorNumber=EPERM",
    "TasksMax=4096",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    # Whoever may speak to systemd or to the bus may ask for a program outside of all this.
    "InaccessiblePaths=-/run/dbus -/run/systemd/private -/var/lib/agent-supervisor",
    "TemporaryFileSystem=/run/agent-supervisor:mode=0755",
)
# What that hides of the machine's, where an installation may lie all the same: the warden has to be found.
HOMES, EMPTIED = ("/home", "/root", "/run/user"), ("/tmp", "/var/tmp")  # noqa: S108 - nothing is made there


def start(order: StartCommand, unit: Unit, tools: Tools) -> Answer:
    """Have systemd start it, unless it knows that unit; how it is then. CommitError when systemd says no."""
    if order.limits is not None:
        # Where there are none those of before are lifted. Only limits are worth a refusal.
        limit = tools.run_well if order.limits != HandlerLimits() else tools.run
        limit("systemctl", "set-property", "--runtime", "--", order.slice, *_limits(order.limits))
    for service in order.services:
        _limit_service(service, tools)
    program = (sys.executable, "-I", "-m", WARDEN, f"{ORDERS}/{order.number}")
    try:
        unit.start(order.description, order.timeout_s + MARGIN_S, program, _properties(order))
    except CommitError:
        # systemd refuses a unit that it has, too, which somebody killed before its answer has left.
        shown = unit.show()
        if not shown.is_loaded:
            raise
        return standing(shown)
    pidfd = only_one_in(f"{group_of(order.slice)}/{unit.name}")
    return standing(unit.show()) if pidfd < 0 else (CommandStanding(is_known=True, is_running=True), (pidfd,))


def standing(shown: Shown) -> Answer:
    """The answer, with the pidfd of the unit's first process while there is one."""
    is_running = shown.is_loaded and not shown.is_over
    pidfds: tuple[int, ...] = ()
    if is_running:
        try:
            pidfds = (os.pidfd_open(shown.main_pid),)
        except (ProcessLookupError, ValueError):
            # It ended this moment: the next question is answered otherwise.
            is_running = False
    code = None if shown.signalled or is_running else shown.status
    lives = shown.is_loaded and not is_running and lives_in(shown.group)
    return CommandStanding(shown.is_loaded, is_running, shown.timed_out, code, lives), pidfds


def end(order: EndCommand, unit: Unit, tools: Tools) -> Committed:
    """Kill what lives of it, if so ordered; have systemd forget it if nothing does."""
    shown = unit.show()
    if not shown.is_loaded:
        return Committed((), f"{unit.name} is not known")
    if order.kill:
        tools.run("systemctl", "kill", "--signal=KILL", "--", unit.name)
    elif lives_in(shown.group):
        return Committed((), f"{unit.name} stays: something of it lives on")
    unit.forget()
    return Committed((), f"{unit.name} is forgotten")


def _limit_service(service: ServiceLimits, tools: Tools) -> None:
    """If there is such a service. It is no reason to keep a command from being run. Without a limit the
    one before is lifted."""
    if "loaded" in tools.run("systemctl", "show", "--property=LoadState", "--value", "--", service.name).output.split():
        limits = ("CPUAccounting=yes", "MemoryAccounting=yes", *_limits(HandlerLimits(service.cpu_percent))[:1])
        tools.run("systemctl", "set-property", "--runtime", "--", service.name, *limits)


def make_slice(order: MakeSlice, tools: Tools) -> Committed:
    """Unless it is there. CommitError when systemd says no."""
    tools.run_well("systemctl", "start", "--", order.slice)
    return Committed((), f"{order.slice} is there")


def only_one_in(group: str, roots: Iterable[str] = CGROUPS) -> int:
    """A pidfd of the one process in the cgroup called `group`: of a unit that was started this moment, the first.
    -1 where there are more, or none."""
    # What is not there, one of the two hierarchies mostly, reads as nothing.
    pids = b"".join(_read(f"{root}{group}/cgroup.procs") for root in roots).split()
    with suppress(ProcessLookupError):
        return os.pidfd_open(int(pids[0])) if len(set(pids)) == 1 else -1
    return -1


def group_of(name: str) -> str:
    """Where systemd has the cgroup of that slice: each dash is one level."""
    words = name.removesuffix(".slice").split("-")
    return "".join(f"/{'-'.join(words[: depth + 1])}.slice" for depth in range(len(words)))


def lives_in(group: str, roots: Iterable[str] = CGROUPS) -> bool:
    """Whether a process lives in the cgroup called `group`, or below it."""
    for root in roots:
        for folder, _, files in os.walk(f"{root}{group}") if group else ():
            if "cgroup.procs" in files and _read(f"{folder}/cgroup.procs"):
                return True
    return False


def _read(path: str) -> bytes:
    """The start of a small file; nothing where it is gone."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 64)
    finally:
        os.close(descriptor)


def _limits(limits: HandlerLimits) -> list[str]:
    """As systemd has them; each is said: one that is none any more is lifted."""
    memory = "infinity" if limits.memory_mib is None else f"{limits.memory_mib}M"
    tasks = "infinity" if limits.tasks is None else str(limits.tasks)
    quota = "" if limits.cpu_percent is None else f"{limits.cpu_percent}%"
    return [f"CPUQuota={quota}", f"MemoryMax={memory}", f"TasksMax={tasks}"]


def _properties(order: StartCommand) -> Iterable[str]:
    yield f"Slice={order.slice}"
    # Whoever eats its memory ends alone: the warden is to tell, and what else is left running goes on.
    yield "OOMPolicy=continue"
    # A warden that leaves nothing behind says so, and systemd forgets the unit.
    yield "NotifyAccess=main"
    if order.containment is not None:
        yield from CONTAINED
        yield from _of_warden(order.containment)
        yield from warden_there(installation())
        if not order.containment.network:
            yield "PrivateNetwork=yes"
        yield from _own_places(order.number, order.containment)


def _of_warden(own: Containment) -> Iterable[str]:
    names = (*OF_WARDEN, *OF_OUTBOUND) if own.outbound else OF_WARDEN
    yield f"CapabilityBoundingSet={' '.join(f'CAP_{name.upper()}' for name in names)}"
    if own.outbound:
        yield from WITH_OUTBOUND


def installation() -> frozenset[str]:
    """The folders that the warden is started from: interpreter, its library, and this project's."""
    project = __file__.rpartition("/workers/")[0]
    return frozenset((project, sys.prefix, sys.base_prefix))


def warden_there(folders: Iterable[str]) -> Iterable[str]:
    """Show those folders, read-only, that lie where the command finds nothing of the machine's."""
    hidden = sorted(folder for folder in folders if _below(folder, HOMES + EMPTIED))
    if any(_below(folder, HOMES) for folder in hidden):
        # In folders that can't be opened nothing can be shown; in empty ones it can.
        yield "ProtectHome=tmpfs"
    if hidden:
        yield f"BindReadOnlyPaths={' '.join(hidden)}"


def _below(path: str, folders: tuple[str, ...]) -> bool:
    return path.startswith(tuple(f"{folder}/" for folder in folders))


def _own_places(number: int, own: Containment) -> Iterable[str]:
    """The handler's own folders, in an otherwise empty one; its keys; and the order's folder, for the warden."""
    folder = f"{ORDERS}/{number}"
    shown = [f"{own.lib}/{name}" for name in own.folders]
    yield f"TemporaryFileSystem={own.lib}:mode=0755"
    yield f"BindPaths={' '.join((folder, *shown))}"
    yield f"ReadWritePaths={' '.join((folder, *shown))} -{own.log_folder}/{own.handler}"
    if own.thumbprint:
        names = (f"{own.thumbprint}.crt", f"{own.thumbprint}.prv")
        yield f"BindReadOnlyPaths={' '.join(f'{folder}/{name}:{own.lib}/{name}' for name in names)}"


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry (workers.runtime)."""
    with companion() as ask_companion:
        handler = partial(on_order, Tools(ask_companion))
        kinds = (StartCommand, AskCommand, EndCommand, MakeSlice)
        serve_once(channel, lock, dict.fromkeys(kinds, handler), again=True)


def on_order(
    tools: Tools, order: StartCommand | AskCommand | EndCommand | MakeSlice, descriptors: tuple[int, ...]
) -> Iterable[Answer]:
    """Carry out one order. CommitError."""
    close_all(descriptors)
    if isinstance(order, MakeSlice):
        yield make_slice(order, tools)
        return
    unit = Unit(f"agent-supervisor-handler-{order.number}.service", tools)
    try:
        if isinstance(order, EndCommand):
            yield end(order, unit, tools)
        else:
            yield start(order, unit, tools) if isinstance(order, StartCommand) else standing(unit.show())
    except OSError as error:
        raise CommitError(f"command {order.number}: {error}") from error
