# SPDX-License-Identifier: Apache-2.0
"""The supervisor's composition root: reads the configuration, makes one of everything, runs the loop.

Runs as the spawner's first child, root with next to no capability. It parses nothing from outside but what the threat
model names.
"""

from supervisor import lean  # noqa: I001 - before msgspec is imported by anything below
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
from policy.profile import Compiled, CompiledPolicy, Profile
from supervisor import config as configuration
from supervisor import control, facts, options, renewal, vm_identity
from supervisor.audit_log import AuditLog, Surroundings
from supervisor.audit_log_entry import Entry
from supervisor.audit_log_mirror import Mirror
from supervisor.beginnings import (
    known_vm,
    look_for_strangers,
    open_journal,
    policy_in_force,
    tell_of_policy,
)
from supervisor.births import Births
from supervisor.clock import SystemClock
from supervisor.contact import Contact
from supervisor.credentials import Credentials
from supervisor.dispatch import Table
from supervisor.egress.guard import Guard
from supervisor.egress.guests import Guests
from supervisor.egress.sockets import Sockets
from supervisor.egress.wanted import wanted
from supervisor.exits import EXIT_ANEW, EXIT_BUG, EXIT_CONFIG
from supervisor.fleet import Fleet
from supervisor.jail import capabilities, heap
from supervisor.jail.shedding import Places, end_provisioning, lock_resident
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
from supervisor.status import in_force
from supervisor.version import VERSION
from supervisor.wire.endpoint import saved_endpoint

if TYPE_CHECKING:
    from supervisor.egress.forwarding import Grants
    from supervisor.wire.host import WireServer
    from supervisor.wire.latching import Parse
    from supervisor.wire.secure_channel import SecureChannel

SPAWNER_FD = 3
JITTER = 0.2
# For acts under way, when the service is stopped; the spawner waits a little longer for us.
STOP_PATIENCE_S = 5.0
# Then the first goal state is in force and its status told, most likely: what those took is not needed again.
AT_REST_AFTER_S = 8.0
# Well below systemd's own patience with a service's start (90 s).
READY_AT_LATEST_S = 30.0
LEVELS = {"error": "ERROR", "warning": "WARNING", "info": "INFO", "verbose": "VERBOSE"}


class Own(msgspec.Struct, frozen=True):
    """What this process begins with. `places` are the folders that only this machine knows, by their placeholders;
    `problem` is why there is no folder for its state, if so."""

    past: Past
    policy: CompiledPolicy
    places: Places
    problem: str


class Supervisor:
    """Everything in this process, wired together."""

    def __init__(self, parsed: configuration.Parsed, layout: Layout, log: Log, loop: Loop, own: Own) -> None:
        past, policy = own.past, own.policy
        self.loop = loop
        self.log = log
        self._config = parsed.config
        self._layout = layout
        self.audit = self._audit_log()
        self._record_start(past, policy)
        programs = {compiled.profile.kind: compiled for compiled in policy.programs}
        profiles = {kind: _without_what_the_jail_needs(compiled.profile) for kind, compiled in programs.items()}
        workers = {kind: profile for kind, profile in profiles.items() if kind not in {"supervisor", "spawner"}}
        if not past.anew:
            look_for_strangers(self.say)
        self.table = Table(workers.values(), lambda phase: self.audit(Entry("phase", detail=phase)))
        spawner = socket.socket(fileno=SPAWNER_FD)
        births = Births(loop, self.table, spawner, layout, self.say, self.audit)
        self.fleet = Fleet(loop, workers, births, random.random, self.say)  # noqa: S311 - spreads restarts in time, guards nothing
        # Whatever else is to be done: it has the first job.
        self.fleet.prepared.begin("egress")
        endpoint = saved_endpoint(layout.lib)
        self.say(
            "info", "host", f"WireServer is {endpoint.address} ({endpoint.why}); no DHCP discovery in this version"
        )
        rule = wanted(self._config, endpoint.address, profiles["wire-socket"].identity.uid)
        guests = Guests(self._config, layout.lib)
        self.guard = Guard(loop, self.fleet, Sockets(loop, self.fleet), rule, guests, self.say, self.audit)
        self.contact = Contact(
            loop, self.fleet, partial(_connect, loop, layout.lib, self.guard), self.say, partial(_secure, self, layout)
        )
        self.standing = Standing(loop.clock, log.leave_console, log.redactor.clean)
        earlier = ("done",) if past.anew else ()
        parts = self._parts(own)
        self.provisioning = Provisioning(parts, known_vm(self.say), *earlier)
        self.rounds = Rounds(parts)
        self.notifier = Notifier.from_environment(os.environ, os.getppid())
        self.control: control.ControlServer | None = None
        self.observer = Observer(self, profiles, in_force(policy), past)
        self.exit_status, self._landlocked = 0, False
        self._granted = policy.wireserver
        self.grants: Grants | None = None
        self._own, self._places = programs["supervisor"], own.places

    def say(self, level: str, source: str, text: str) -> None:
        """One line to the log."""
        self.log.line(LEVELS[level], source, text)  # type: ignore[arg-type]

    def run(self) -> None:
        """Until SIGTERM."""
        self._watch_signals()
        self._listen()
        self.notifier.keep_watchdog(self.loop)
        self.loop.start("main", self._live(), detached=True)
        # From here on nothing is there that its work does not need, and nothing from outside was read until now.
        self._landlocked = _lock(self._own, self._places, self.say)
        # Units ordered after ours, sshd above all, find keys and account made; but no boot hangs on a silent host.
        self.loop.call_later(READY_AT_LATEST_S, self._tell_ready)
        self.loop.run()

    def _tell_ready(self) -> None:
        self.notifier.status(f"provisioning: {self.provisioning.text}")
        self.notifier.ready()

    async def _live(self) -> None:
        await self.guard.begin()
        await self.provisioning.run()
        if renewal.is_due(self.provisioning):
            await self._make_room()
            return
        self.loop.start("guests", self.guard.settle(), detached=True)
        why_asleep = self.provisioning.why_asleep
        self._prepare()
        self._begin_grants()
        if self._landlocked:
            end_provisioning(self._own.profile, self._places)
        heap.give_back()
        self._tell_ready()
        if why_asleep:
            self.rounds.stay_away(why_asleep)
        else:
            self.loop.call_later(AT_REST_AFTER_S, heap.trim)
            await self.rounds.run()

    def _prepare(self) -> None:
        """Load what talking to the host takes, while files can still be opened."""
        if not self.provisioning.why_asleep:
            self.rounds.prepare()

    def _begin_grants(self) -> None:
        if self._granted and not self.provisioning.why_asleep:
            begin = import_module("supervisor.egress.forwarding").begin
            self.grants = begin(self.loop, self.fleet, self.contact, self._granted, self.say, self.audit)

    async def _make_room(self) -> None:
        """For a fresh process, by way of the spawner: what Python and libzmq have freed is not overwritten."""
        self._tell_ready()
        self.say("info", "supervisor", "provisioning is over: a fresh process goes on, without what this one has seen")
        self.exit_status = EXIT_ANEW
        await self._wind_up()

    def _parts(self, own: Own) -> Parts:
        media = self._config[options.PROVISIONING_MEDIA]
        sought = "a CD or DVD drive in /dev" if media == "auto" else media
        finder = Finder(
            self.loop,
            self.fleet,
            lambda: facts.media(media),
            sought,
        )
        credentials = Credentials(self._layout.credentials, self.fleet)
        journal = open_journal(self._layout, self.say, own.problem)
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
            self.log.redactor.clean,
            self.log.show,
            self.standing,
            self.audit,
            own.policy.extensions,
        )

    def _audit_log(self) -> AuditLog:
        clock, boot, clean = self.loop.clock, vm_identity.boot_id(), self.log.redactor.clean
        return AuditLog(
            self._layout.audit_log,
            Surroundings(clock, boot, clean, self.loop.call_later, self.say, Mirror(self.loop.call_later)),
        )

    def _record_start(self, past: Past, policy: CompiledPolicy) -> None:
        told = (
            f"version {VERSION}, settings {self._layout.config}, {past.restarts} restarts, last exit: {past.last_exit}"
        )
        self.audit(Entry("agent-start", pid=os.getpid(), boot=vm_identity.boot_id(), detail=told))
        self.audit(Entry("policy", digest=policy.digest, detail=policy.origin.sentence))
        tell_of_policy(policy, self.say)
        self._tell_of_audit_log()

    def _tell_of_audit_log(self) -> None:
        """Where the audit log stands: whoever has kept the line can tell later that nothing before it was changed."""
        self.say("info", "audit", f"the audit log is at {self.audit.end}")

    def _listen(self) -> None:
        group = control.group_id(self._config[options.CONTROL_GROUP])
        listener = control.listen(self._layout.control_socket, group)
        duties = control.Duties(
            self.observer.reads(),
            {**dict.fromkeys(("restart", "stop-worker"), self.observer.restart), "renew-rule": self.guard.renew},
            lambda text: "/workers/" not in text,
            lambda text: self.say("info", "control", text),
            record=self.audit,
        )
        self.control = control.ControlServer(self.loop, listener, group, duties)

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
        if self.grants is not None:
            await self.grants.end()
        await self.fleet.wind_up(STOP_PATIENCE_S)
        self.rounds.close()
        self.audit(Entry("agent-stop", detail="for a fresh process" if self.exit_status else ""))
        self.audit.finish()
        self._tell_of_audit_log()
        self.loop.stop()


def _settle(past: Past, layout: Layout, config: configuration.Config, log: Log) -> Own:
    """Move to the mount tree that this process stays in, before it opens its state or reads from outside."""
    policy = policy_in_force(past.policy)
    own_tree = import_module("supervisor.own_tree")
    places, problem = own_tree.take(policy, layout, config, os.environ, log)
    lean.unload(own_tree.UNLOADED)
    return Own(past, policy, places, problem)


def _lock(own: Compiled, places: Places, say: Callable[[str, str, str], None]) -> bool:
    landlocked = lock_resident(own, places)
    if not landlocked:
        say("warning", "supervisor", "without Landlock: root's files are closed to this process by their modes alone")
    return landlocked


def _without_what_the_jail_needs(profile: Profile) -> Profile:
    """Paths and system calls are the spawner's affair; here they would only take memory, for as long as we live."""
    calls = msgspec.structs.replace(profile.locked_calls, groups=(), names=())
    return msgspec.structs.replace(profile, paths=(), startup_calls=calls, locked_calls=calls)


def _connect(loop: Loop, lib: str, guard: Guard) -> "WireServer":
    """The client to the host, by the address saved in `lib`, read anew: until now it may have been a former VM's."""
    client = import_module("supervisor.wire.host").WireServer
    address = saved_endpoint(lib).address
    # Many VMs lose the host together, and should not all come back to it in step.
    guard.protect(address)
    made: WireServer = client(loop, address, jitter=_spread, make_socket=guard.take_socket)
    return made


def _secure(of: Supervisor, layout: Layout, host: "WireServer", parse: "Parse") -> "SecureChannel":
    """What tends the secure channel of `host`."""
    channel, store = import_module("supervisor.wire.secure_channel"), import_module("supervisor.wire.key_store")
    holder = import_module("supervisor.guest_proxy_agent").GuestProxyAgent().why
    around = channel.Surroundings(
        store.KeyStore(layout.credentials, of.provisioning.vm_id),
        holder,
        of.say,
        of.audit,
        of.log.redactor.register,
        of.standing,
    )
    made: SecureChannel = channel.SecureChannel(of.loop, host, parse, around)
    return made


def _spread(delay_s: float) -> float:
    return delay_s * random.uniform(1, 1 + JITTER)  # noqa: S311 - guards nothing


def main() -> int:
    """The process's life; the exit status is 0 after SIGTERM."""
    lean.loaded()
    capabilities.forbid_dump()
    clock = SystemClock()
    loop = Loop(clock)
    layout = Layout(config=sys.argv[1])
    past = Past(int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), anew=bool(sys.argv[5]))
    stream = StreamOutlet(2, journal=is_journal(os.environ, 2))
    log = Log(clock, [FileOutlet(layout.log), stream, ConsoleOutlet(layout.console)], Redactor())
    loop.on_failure(lambda name, error: _report(log, name, error))
    try:
        parsed = configuration.load(layout.config)
        if past.anew or not parsed.config[options.LOGS_CONSOLE]:
            log.leave_console()
        log.line("INFO", "supervisor", f"agent-supervisor {VERSION} starts with {layout.config}")
        if not facts.only_root_writes(layout.config):
            log.line("WARNING", "config", f"{layout.config} can be written by others than root")
        for finding in parsed.findings:
            log.line("WARNING" if finding.level == "warning" else "INFO", "config", f"{layout.config}, {finding}")
        log.verbose = parsed.config[options.LOGS_VERBOSE]
        layout = msgspec.structs.replace(layout, lib=parsed.config[options.LIB_DIR])
        supervisor = Supervisor(parsed, layout, log, loop, _settle(past, layout, parsed.config, log))
        supervisor.run()
        return supervisor.exit_status
    except ConfigError as error:
        log.line("ERROR", "supervisor", f"can't start: {error}")
        return EXIT_CONFIG
    except StateError as error:
        # A full disk, say: another start may go better.
        log.line("ERROR", "supervisor", f"can't go on: {error}")
        return 1
    finally:
        log.close()


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
