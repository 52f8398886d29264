# SPDX-License-Identifier: Apache-2.0
"""The supervisor's composition root: reads the configuration, makes one of everything, runs the loop.

Runs as the spawner's first child, root with next to no capability. It parses nothing from outside but what the threat
model names.
"""

import supervisor.lean  # noqa: F401, I001 - before msgspec is imported by anything below
import os
import random
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

import msgspec

from ipc.errors import AgentError, ConfigError, StateError
from policy.load import load as load_policy
from policy.profile import Profile
from policy.profile import WORKER_UIDS
from supervisor import config as configuration
from supervisor import control, facts, options, vm_identity
from supervisor.births import Births
from supervisor.clock import SystemClock
from supervisor.contact import Contact
from supervisor.credentials import Credentials
from supervisor.dispatch import Table
from supervisor.exits import EXIT_BUG, EXIT_CONFIG
from supervisor.files import make_folder
from supervisor.fleet import Fleet
from supervisor.jail import capabilities, heap, seccomp
from supervisor.journal import Journal, UnusableJournal
from supervisor.layout import Layout
from supervisor.log import Log
from supervisor.loop import Loop
from supervisor.medium import Finder
from supervisor.notify import Notifier
from supervisor.outlets import ConsoleOutlet, FileOutlet, StreamOutlet, is_journal
from supervisor.overview import Observer, Past
from supervisor.parts import Parts
from supervisor.provisioning import Provisioning
from supervisor.redaction import Redactor
from supervisor.rounds import Rounds
from supervisor.standing import Standing
from supervisor.version import VERSION
from supervisor.wire.endpoint import saved_endpoint

if TYPE_CHECKING:
    from supervisor.wire.host import WireServer

SPAWNER_FD = 3
JITTER = 0.2
# For acts under way, when the service is stopped; the spawner waits a little longer for us.
STOP_PATIENCE_S = 5.0
# Well below systemd's own patience with a service's start (90 s).
READY_AT_LATEST_S = 30.0
LEVELS = {"error": "ERROR", "warning": "WARNING", "info": "INFO", "verbose": "VERBOSE"}


class Supervisor:
    """Everything in this process, wired together."""

    def __init__(self, parsed: configuration.Parsed, layout: Layout, log: Log, loop: Loop, past: Past) -> None:
        self.loop = loop
        self.log = log
        self._config = parsed.config
        self._layout = layout
        programs = {compiled.profile.kind: compiled for compiled in load_policy().programs}
        profiles = {kind: _without_what_the_jail_needs(compiled.profile) for kind, compiled in programs.items()}
        workers = {kind: profile for kind, profile in profiles.items() if kind not in {"supervisor", "spawner"}}
        self._make_folders()
        _look_for_strangers(self.say)
        self.table = Table(workers.values())
        spawner = socket.socket(fileno=SPAWNER_FD)
        births = Births(loop, self.table, spawner, layout, self.say)
        self.fleet = Fleet(loop, workers, births, random.random, self.say)  # noqa: S311 - spreads restarts in time, guards nothing
        endpoint = saved_endpoint(layout.lib)
        self.say(
            "info", "host", f"WireServer is {endpoint.address} ({endpoint.why}); no DHCP discovery in this version"
        )
        self.contact = Contact(loop, self.fleet, partial(_connect, loop, layout.lib), self.say)
        self.standing = Standing(loop.clock, log.leave_console, log.redactor.clean)
        self.provisioning = Provisioning(self._parts(), self._vm_id())
        period = float(self._config[options.GOAL_STATE_PERIOD])
        self.rounds = Rounds(loop, self.contact, period, self.say)
        self.notifier = Notifier.from_environment(os.environ, os.getppid())
        self.control: control.ControlServer | None = None
        self.observer = Observer(self, profiles, past)
        self._filter = programs["supervisor"].locked_filter

    def say(self, level: str, source: str, text: str) -> None:
        """One line to the log."""
        self.log.line(LEVELS[level], source, text)  # type: ignore[arg-type]

    def run(self) -> None:
        """Until SIGTERM."""
        self._watch_signals()
        self._listen()
        self._keep_watchdog()
        self.loop.start("main", self._live(), detached=True)
        # From here on nothing is loaded and set up that its work does not need.
        seccomp.load(self._filter, all_threads=True)
        # Units ordered after ours, sshd above all, find keys and account made; but no boot hangs on a silent host.
        self.loop.call_later(READY_AT_LATEST_S, self._tell_ready)
        self.loop.run()

    def _tell_ready(self) -> None:
        self.notifier.status(f"provisioning: {self.provisioning.text}")
        self.notifier.ready()

    async def _live(self) -> None:
        await self.provisioning.run()
        heap.give_back()
        self._tell_ready()
        why_asleep = self.provisioning.why_asleep
        if why_asleep:
            self.rounds.stay_away(why_asleep)
        else:
            await self.rounds.run()

    def _parts(self) -> Parts:
        media = self._config[options.PROVISIONING_MEDIA]
        sought = "a CD or DVD drive in /dev" if media == "auto" else media
        finder = Finder(
            self.loop,
            self.fleet,
            lambda: facts.media(media),
            sought,
        )
        credentials = Credentials(self._layout.credentials, self.fleet)
        journal = self._journal()
        return Parts(
            self.loop,
            self.fleet,
            self.table,
            self.contact,
            credentials,
            journal,
            finder,
            self._config,
            self._layout,
            self.say,
            self.log.redactor.register,
            self.log.show,
            self.standing,
        )

    def _journal(self) -> Journal:
        """The journal; one that is damaged was moved aside, and then an empty one begins.

        Where none can be had (a full disk, a read-only one) this process lives on: the host and `ps` are told."""
        path = self._layout.journal
        try:
            make_folder(self._layout.state, 0o700)
            journal = self._journal_at(path)
        except StateError as error:
            why = f"nothing is provisioned without a journal, and it can't be used: {error}"
            self.say("error", "journal", why)
            return UnusableJournal(path, why)
        for note in journal.notes:
            self.say("warning", "journal", note)
        return journal

    def _journal_at(self, path: str) -> Journal:
        try:
            return Journal(path)
        except StateError as damage:
            self.say("error", "journal", str(damage))
            return Journal(path)

    def _vm_id(self) -> vm_identity.VmId:
        vm_id = vm_identity.vm_id()
        if vm_id.problem:
            self.say("warning", "provisioning", f"{vm_id.problem}: a disk moved to another VM can't be told")
        return vm_id._replace(boot=vm_identity.boot_id())

    def _make_folders(self) -> None:
        make_folder(self._layout.run, 0o755)
        make_folder(self._layout.channels, 0o711)
        try:
            make_folder(self._layout.lib, 0o700)
        except StateError as error:
            # What is to be written there will fail, and say so to the host.
            self.say("error", "supervisor", str(error))

    def _listen(self) -> None:
        group = control.group_id(self._config[options.CONTROL_GROUP])
        listener = control.listen(self._layout.control_socket, group)
        duties = control.Duties(
            self.observer.reads(),
            {"restart": self.observer.restart, "stop-worker": self.observer.restart},
            lambda text: "/workers/" not in text,
            lambda text: self.say("info", "control", text),
        )
        self.control = control.ControlServer(self.loop, listener, group, duties)

    def _keep_watchdog(self) -> None:
        period = self.notifier.watchdog_period_s
        if period is None:
            return

        def beat() -> None:
            self.notifier.watchdog()
            self.loop.call_later(period, beat)

        beat()

    def _watch_signals(self) -> None:
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        reader.setblocking(False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.set_wakeup_fd(writer.detach())
        signalled = reader.detach()
        self.loop.watch(signalled, lambda: self._stop(signalled))

    def _stop(self, signalled: int) -> None:
        # Once is enough, and what nobody reads stays readable.
        self.loop.unwatch(signalled)
        self.say("info", "supervisor", "stopping")
        self.notifier.stopping()
        self.loop.start("stop", self._wind_up(), detached=True)

    async def _wind_up(self) -> None:
        """What is being committed is committed, nothing new is begun; then this process ends."""
        await self.fleet.wind_up(STOP_PATIENCE_S)
        self.contact.host.close()
        self.loop.stop()


def _without_what_the_jail_needs(profile: Profile) -> Profile:
    """Paths and system calls are the spawner's affair; here they would only take memory, for as long as we live."""
    calls = msgspec.structs.replace(profile.locked_calls, groups=(), names=())
    return msgspec.structs.replace(profile, paths=(), startup_calls=calls, locked_calls=calls)


def _connect(loop: Loop, lib: str) -> "WireServer":
    """The client to the host, by the address saved in `lib`, read anew: until now it may have been a former VM's."""
    client = import_module("supervisor.wire.host").WireServer
    address = saved_endpoint(lib).address
    # Many VMs lose the host together, and should not all come back to it in step.
    made: WireServer = client(loop, address, jitter=lambda delay: delay * random.uniform(1, 1 + JITTER))  # noqa: S311
    return made


def _look_for_strangers(say: Callable[[str, str, str], None]) -> None:
    """Whoever has a worker's uid may do to that worker what it may do to itself."""
    try:
        strangers = facts.accounts_within(WORKER_UIDS)
    except OSError as error:
        say("error", "supervisor", f"{facts.ACCOUNTS} can't be read: {error.strerror}")
        return
    if strangers:
        named, uids = ", ".join(strangers), f"{WORKER_UIDS[0]} to {WORKER_UIDS[-1]}"
        danger = f"the uids {uids} are this agent's workers', which are not safe from these accounts: give them others"
        say("error", "supervisor", f"{facts.ACCOUNTS} has {named}: {danger}")


def main() -> int:
    """The process's life; the exit status is 0 after SIGTERM."""
    capabilities.forbid_dump()
    clock = SystemClock()
    loop = Loop(clock)
    layout = Layout(config=sys.argv[1])
    past = Past(int(sys.argv[2]), sys.argv[3])
    stream = StreamOutlet(2, journal=is_journal(os.environ, 2))
    log = Log(clock, [FileOutlet(layout.log), stream, ConsoleOutlet(layout.console)], Redactor())
    loop.on_failure(lambda name, error: _report(log, name, error))
    try:
        parsed = configuration.load(layout.config)
        if not parsed.config[options.LOGS_CONSOLE]:
            log.leave_console()
        log.line("INFO", "supervisor", f"agent-supervisor {VERSION} starts with {layout.config}")
        if not facts.only_root_writes(layout.config):
            log.line("WARNING", "config", f"{layout.config} can be written by others than root")
        for finding in parsed.findings:
            log.line("WARNING" if finding.level == "warning" else "INFO", "config", f"{layout.config}, {finding}")
        log.verbose = parsed.config[options.LOGS_VERBOSE]
        layout = msgspec.structs.replace(layout, lib=parsed.config[options.LIB_DIR])
        Supervisor(parsed, layout, log, loop, past).run()
    except ConfigError as error:
        log.line("ERROR", "supervisor", f"can't start: {error}")
        return EXIT_CONFIG
    except StateError as error:
        # A full disk, say: another start may go better.
        log.line("ERROR", "supervisor", f"can't go on: {error}")
        return 1
    finally:
        log.close()
    return 0


def _report(log: Log, name: str, error: BaseException) -> None:
    """Log what nobody caught. Our own bug ends the process: a fresh one knows from the journal where to go on."""
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append(f"{trace.tb_frame.f_code.co_qualname}:{trace.tb_lineno}")
        trace = trace.tb_next
    log.line("ERROR", "supervisor", f"{name}: {type(error).__name__}: {error} (at {' > '.join(frames[-6:])})")
    if not isinstance(error, AgentError):
        raise SystemExit(EXIT_BUG)


if __name__ == "__main__":
    # Tasks that still wait for something end with the process; taking the interpreter down would have each complain.
    os._exit(main())
