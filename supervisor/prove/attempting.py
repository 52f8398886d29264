# SPDX-License-Identifier: Apache-2.0
"""Owns one attempt, from its preparation to its end: who attacks is started, given its task, heard, and cleared away.

Runs in a lane of `prove`, on its stage.
"""

import os
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress

import msgspec

from ipc import pair
from ipc.channel import Channel, PacketChannel
from ipc.descriptors import packet_pair
from policy.profile import Compiled
from supervisor.dispatch import PHASES
from supervisor.jail.cgroup import Group
from supervisor.layout import Layout
from supervisor.prove import counterpart, probes, stage, starting, weakened
from supervisor.prove.catalogue import Attack
from supervisor.prove.manoeuvres import MANOEUVRES, Attacker, Listener
from supervisor.prove.verdict import Ended, read_end
from supervisor.prove.within import Task, send_task
from supervisor.spawner import channel_folder
from supervisor.spawner.child import Birth

PATIENCE_S = 6.0
IN_THE_CHANNEL = frozenset({"table", "descriptors", "message-limits"})


class Subject(msgspec.Struct, frozen=True):
    """Who attacks: a process of that policy in `group`; without a group the same one, but as `uid` and unconfined."""

    compiled: Compiled
    group: Group | None
    uid: int = 0


class Attempts:
    """Makes them, one at a time. `missing` are the mechanisms that this machine lacks, `without` those left out."""

    def __init__(self, policies: Mapping[str, Compiled], missing: frozenset[str], without: frozenset[str]) -> None:
        self._policies = policies
        self._missing = missing
        self._without = without
        self._layout = Layout()

    def make(self, attack: Attack, task: Task, subject: Subject) -> Ended:
        """What became of one attempt; nothing of it is left."""
        stage.replant()
        reader, log = os.pipe2(os.O_CLOEXEC)
        ours, theirs = packet_pair()
        listener = self._listen(subject)
        file, folder = (os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in (stage.FILE, stage.FOLDER))
        stand = self._stand_in(attack, subject, starting.Ends(theirs.fileno(), log))
        os.close(log)
        theirs.close()
        try:
            with suppress(OSError):
                send_task(ours, task, (file, folder))
            hearing = Listener(reader, PATIENCE_S)
            confined = subject.group is not None
            attacker = Attacker(stand, ours, hearing, subject.compiled.profile, confined=confined)
            if attack.origin == "channel":
                return self._heard(task, attacker, listener)
            return _seen(attack, attacker)
        finally:
            for descriptor in (file, folder, reader):
                os.close(descriptor)
            ours.close()
            self._clear(subject, listener)

    def _clear(self, subject: Subject, listener: socket.socket | None) -> None:
        if listener is not None:
            listener.close()
        if subject.group is not None:
            subject.group.kill()
            subject.group.remove()
        with suppress(OSError):
            channel_folder.take_away(self._folder(subject))

    def _heard(self, task: Task, attacker: Attacker, listener: socket.socket | None) -> Ended:
        """By what the other end of its channel made of it."""
        profile = attacker.profile
        path = f"{self._layout.channel_folder(profile.kind, 0)}/s"
        before = task.probe in probes.BEFORE_IT_IS_READY
        dropped = self._without & IN_THE_CHANNEL
        if attacker.confined and not dropped - {"table"}:
            phase = next(phase for phase in PHASES if phase == task.arguments.get("phase", "provisioning"))
            judge = counterpart.strict(profile, phase, table_dropped="table" in dropped)
        else:
            judge = counterpart.plain(0 if before else 1)
        uid = profile.identity.uid if attacker.confined and "uid" not in self._without else 0
        reader, pid = counterpart.hear(counterpart.Line(attacker.side, listener, path, uid), judge)
        told = os.read(reader, 4096).decode()
        os.close(reader)
        os.waitpid(pid, 0)
        attacker.side.close()
        attacker.stand.kill_attacker()
        return _told(told, attacker.stand.finish(PATIENCE_S), attacker.listener, before=before)

    def _stand_in(self, attack: Attack, subject: Subject, ends: starting.Ends) -> starting.StandIn:
        profile = subject.compiled.profile
        shed = starting.shed_like(self._policies["spawner"], self._without)
        if subject.group is None:
            channel = self._bare_channel(attack, subject)
            return starting.StandIn(starting.bare(ends, channel, subject.uid), lambda: None, ends)
        if profile.lifetime.kind == "one-shot" or profile.is_worker:
            birth = self._birth(subject.compiled, ends, subject.group)
            begin = weakened.worker(birth, self._without) if self._without else starting.worker(birth)
            return starting.StandIn(begin, shed, ends)
        if profile.kind == "spawner":
            return starting.StandIn(starting.bare(ends), shed, ends)
        begin = starting.resident(subject.compiled, subject.group, ends, self._without)
        return starting.StandIn(begin, shed, ends)

    def _birth(self, compiled: Compiled, ends: starting.Ends, group: Group) -> Birth:
        profile = compiled.profile
        return Birth(
            f"{profile.kind}.0",
            compiled,
            self._policies,
            profile.identity.uid,
            self._layout.channel_folder(profile.kind, 0),
            group,
            ends.side,
            ends.log,
            -1,
            self._missing,
        )

    def _folder(self, subject: Subject) -> str:
        return self._layout.channel_folder(subject.compiled.profile.kind, 0)

    def _bare_channel(self, attack: Attack, subject: Subject) -> Callable[[socket.socket], Channel]:
        if attack.origin != "channel" or subject.compiled.profile.transport == "packet":
            return PacketChannel
        path = f"{self._folder(subject)}/s"
        return lambda side: pair.connect(pair.context(), path, side)

    def _listen(self, subject: Subject) -> socket.socket | None:
        """A worker's endpoint, as the supervisor makes it and the spawner gives it away."""
        profile = subject.compiled.profile
        if profile.transport != "zmq":
            return None
        folder = self._folder(subject)
        channel_folder.take_away(folder)
        os.mkdir(folder, 0o700)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(f"{folder}/s")
        os.chmod(f"{folder}/s", 0o600)
        listener.listen(8)
        if subject.group is not None and "uid" not in self._without:
            channel_folder.give(folder, profile.identity.uid)
        return listener


def _seen(attack: Attack, attacker: Attacker) -> Ended:
    """By its own words, by its end, or by what it brought about."""
    if attack.probe in MANOEUVRES:
        return MANOEUVRES[attack.probe](attacker)
    words, log = attacker.listener.words()
    attacker.side.close()
    end = read_end(words, attacker.stand.finish(PATIENCE_S), log)
    effect = stage.EFFECTS.get(attack.probe)
    if effect is not None and not effect() and end.how == "succeeded":
        return Ended("denied", "felt by itself alone")
    return end


def _told(told: str, status: int, listener: Listener, *, before: bool) -> Ended:
    """What the counterpart said, as the end of an attempt."""
    words, log = listener.words()
    word, _, rest = told.partition(" ")
    if not words or word not in {"violation", "believed", "taken", "nothing"}:
        return Ended("broken", f"{told} {log[-300:]}")
    if word == "violation":
        return Ended("denied", rest.partition(": ")[2] or rest)
    if word == "believed" or (word == "taken" and len(rest.split()) > (0 if before else 1)):
        return Ended("succeeded")
    return read_end(words, status, log) if status == signal.SIGSYS else Ended("denied", "nothing of it was heard")
