# SPDX-License-Identifier: Apache-2.0
"""Owns what a forked child does from its first instruction: confine itself, then become its worker, then exit.

Runs in the child, never in the spawner. It must not return, and must not read anything from outside before it is
confined.
"""

import _signal  # type: ignore[import-not-found]
import contextlib
import faulthandler
import fcntl
import gc
import os
import socket
import sys
from collections.abc import Mapping
from importlib import import_module

import msgspec

from ipc.channel import Channel, PacketChannel
from ipc.descriptors import sealed_memfd
from ipc.errors import ConfinementError
from ipc.messages import WireGrant
from ipc.provided import PROGRAMS, AttachRedirect, Main, Provided
from policy.profile import Compiled
from supervisor.exits import EXIT_BUG, EXIT_CONFINEMENT
from supervisor.jail import seccomp, syscalls
from supervisor.jail.beneath import open_beneath
from supervisor.jail.cgroup import Group
from supervisor.jail.confine import Confinement, confine

CHANNEL_SOCKET = "/channel/s"
# The descriptors of every worker: 0 and 1 are /dev/null, 2 the log, 3 the packet socket, 4 an exec'd worker's filter,
# PROGRAMS the socket to its companion if it has one.
LOG, SIDE, FILTER, SPAWNER = 2, 3, 4, 5
_OUT_OF_THE_WAY = 64


class Birth(msgspec.Struct, frozen=True):
    """All that the child needs to know; `side`, `log` and `programs` (-1: none, it has no companion) are descriptors,
    `spawner` is the spawner's pidfd, `grants` are the policy's."""

    name: str
    compiled: Compiled
    policies: Mapping[str, Compiled]
    uid: int
    channel_folder: str
    group: Group
    side: int
    log: int
    spawner: int
    missing: frozenset[str]
    programs: int = -1
    grants: tuple[WireGrant, ...] = ()


def live(birth: Birth, *, born_in_group: bool) -> None:
    """Be the worker. Never returns; the exit status is the worker's, or 71 when confinement failed."""
    status = EXIT_CONFINEMENT
    try:
        _reset_signals()
        _arrange_descriptors(birth)
        _become(birth, born_in_group)
        status = 0
    except ConfinementError as error:
        os.write(LOG, f"not confined, not started: {error}\n".encode())
    except (OSError, ImportError) as error:
        os.write(LOG, f"not started: {error}\n".encode())
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    finally:
        with contextlib.suppress(OSError, ValueError):
            if sys.exc_info()[0] is not None:
                sys.__excepthook__(*sys.exc_info())
                status = EXIT_BUG
            sys.stderr.flush()
        os._exit(status)


def work(main: Main, channel: Channel, locked_filter: bytes) -> None:
    """The confined part of every worker's life: its module's `main`, which locks before it reads a request."""
    faulthandler.enable(file=LOG)
    main(channel, lambda: seccomp.load(locked_filter, all_threads=True))


def _become(birth: Birth, born_in_group: bool) -> None:
    profile = birth.compiled.profile
    confinement = Confinement(
        birth.compiled, birth.uid, birth.channel_folder, birth.group, born_in_group, SPAWNER, birth.missing
    )
    for name in profile.preload:
        import_module(name)
    if profile.start == "exec":
        _hand_over(birth.compiled.locked_filter)
        confine(confinement)
        os.set_inheritable(SIDE, True)
        python = sys.executable
        os.execve(python, [python, "-I", "-m", "supervisor.spawner.second_stage", profile.module], {})
    module = import_module(profile.module)
    # What a worker must know of the policies comes from the spawner's memory: nothing can be read after confinement.
    provided = Provided(birth.policies, open_beneath, profile.kind, _redirecting, birth.grants)
    main: Main = module.prepare(provided) if hasattr(module, "prepare") else module.main
    confine(confinement)
    gc.enable()
    work(main, _channel(profile.transport), birth.compiled.locked_filter)


def _redirecting() -> AttachRedirect:
    attach: AttachRedirect = import_module("supervisor.jail.redirecting").attach
    return attach


def _hand_over(locked_filter: bytes) -> None:
    """The filter for the second stage as descriptor FILTER, which survives the exec."""
    program = sealed_memfd("filter", locked_filter)
    if program != FILTER:
        os.dup2(program, FILTER)
        os.close(program)
    os.set_inheritable(FILTER, True)


def _channel(transport: str) -> Channel:
    side = socket.socket(fileno=SIDE)
    if transport == "packet":
        return PacketChannel(side)
    # Only now: a ZeroMQ context starts threads, and they must start under the filter.
    from ipc import pair

    return pair.connect(pair.context(), CHANNEL_SOCKET, side)


def _reset_signals() -> None:
    # Not by `signal`, which makes names of all numbers: that alone would copy as many pages as the mounts do.
    _signal.set_wakeup_fd(-1)
    for number in (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP, _signal.SIGCHLD):
        _signal.signal(number, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())


def _arrange_descriptors(birth: Birth) -> None:
    """Exactly the descriptors named at the top of this file, and no others. The environment becomes empty."""
    os.environ.clear()
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    wanted = {LOG: birth.log, SIDE: birth.side, SPAWNER: birth.spawner}
    if birth.programs >= 0:
        wanted[PROGRAMS] = birth.programs
    # First out of the way, so that no dup2 overwrites a descriptor that is still needed.
    kept = {
        number: fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _OUT_OF_THE_WAY)
        for number, descriptor in {0: null, 1: null, **wanted}.items()
    }
    for number, descriptor in kept.items():
        os.dup2(descriptor, number, inheritable=number <= LOG)
    syscalls.close_range(PROGRAMS + 1, 0xFFFFFFFF)
    for number in {FILTER, PROGRAMS} - set(wanted):
        with contextlib.suppress(OSError):
            os.close(number)
