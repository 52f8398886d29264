# SPDX-License-Identifier: Apache-2.0
"""Owns the control socket: who may ask what, one request and one answer a connection; runs in the supervisor's loop.

It must never wait for a client, never answer what it does not understand, never let a worker control anything.
"""

import contextlib
import os
import socket
from collections.abc import Callable, Mapping

import msgspec

from ipc.errors import MalformedMessage
from supervisor.audit_log_entry import Audit, Decision, Entry, unrecorded
from supervisor.loop import Loop
from supervisor.peer import Peer, cgroup_of, close_peer, identify
from supervisor.verbs import MAX_ANSWER_BYTES, RECORD, Verb, unpack

CONNECTIONS = 16
# Of these at most so many that are not root's: members of the group must not lock root out.
CONNECTIONS_OF_OTHERS = 8
PATIENCE_S = 2.0
ACCEPTS_A_TURN = 8
# Of refusals in the audit log: who may only ask should not push older records out of it.
REFUSALS_AN_HOUR = 60
# After accept failed for want of descriptors or memory: trying at once would spin.
PAUSE_S = 1.0


class Duties(msgspec.Struct, frozen=True):
    """What the server is for. `reads` maps a read verb's name to what gives its data.

    `controls` maps a control verb's name to what it does with a worker's name: a sentence back, or ValueError with the
    reason why not. `outside` judges the text of a peer's /proc/PID/cgroup: True if that is no worker's nor handler's.
    `audit` is told of every control request and every refusal, in words; `record` gets the same for the audit log."""

    reads: Mapping[str, Callable[[], dict[str, object]]]
    controls: Mapping[str, Callable[[str], str]]
    outside: Callable[[str], bool]
    audit: Callable[[str], None]
    proc: str = "/proc"
    record: Audit = unrecorded


class _Connection(msgspec.Struct):
    socket: socket.socket
    peer: Peer
    forget_deadline: Callable[[], None] | None = None


class ControlServer:
    """Answers on `listener` (see `listen`). `group` is the gid that may read beside root, None if there is none."""

    def __init__(self, loop: Loop, listener: socket.socket, group: int | None, duties: Duties) -> None:
        self.served = 0
        self.refused = 0
        self.malformed = 0
        self.dropped = 0
        self._hour_began = 0.0
        self._refused_this_hour = 0
        self._loop = loop
        self._listener = listener
        self._group = group
        self._duties = duties
        self._connections: dict[int, _Connection] = {}
        loop.watch(listener.fileno(), self._accept)

    def close(self) -> None:
        """End all connections and stop listening; the file stays, a new server replaces it."""
        for descriptor in list(self._connections):
            self._end(descriptor)
        self._loop.unwatch(self._listener.fileno())
        self._listener.close()

    def _accept(self) -> None:
        for _ in range(ACCEPTS_A_TURN):
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError:
                self._pause()
                return
            self._admit(connection)

    def _pause(self) -> None:
        self._loop.unwatch(self._listener.fileno())

        def resume() -> None:
            if self._listener.fileno() >= 0:
                self._loop.watch(self._listener.fileno(), self._accept)

        self._loop.call_later(PAUSE_S, resume)

    def _admit(self, connection: socket.socket) -> None:
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MAX_ANSWER_BYTES)
            peer = identify(connection)
        except OSError:
            self.dropped += 1
            connection.close()
            return
        if not self._has_room_for(peer):
            self.dropped += 1
            close_peer(peer)
            connection.close()
            return
        descriptor = connection.fileno()
        entry = self._connections[descriptor] = _Connection(connection, peer)
        entry.forget_deadline = self._loop.call_later(PATIENCE_S, lambda: self._expire(descriptor, entry))
        self._loop.watch(descriptor, lambda: self._serve(descriptor))

    def _has_room_for(self, peer: Peer) -> bool:
        others = sum(entry.peer.uid != 0 for entry in self._connections.values())
        return len(self._connections) < CONNECTIONS and (peer.uid == 0 or others < CONNECTIONS_OF_OTHERS)

    def _expire(self, descriptor: int, entry: _Connection) -> None:
        entry.forget_deadline = None
        self.dropped += 1
        self._end(descriptor)

    def _serve(self, descriptor: int) -> None:
        entry = self._connections[descriptor]
        try:
            # One byte more than a record: so a longer packet shows. Descriptors sent along are dropped by the kernel.
            record = entry.socket.recv(RECORD.size + 1)
        except BlockingIOError:
            return  # the event was for a connection that had this number before, in the same turn
        except OSError:
            record = b""
        if record:
            self._reply(entry, record)
        self._end(descriptor)

    def _reply(self, entry: _Connection, record: bytes) -> None:
        try:
            verb, argument = unpack(record)
            # All or nothing, at once: who has no room for the answer gets none.
            entry.socket.send(self._answer(entry.peer, verb, argument), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            self.served += 1
        except MalformedMessage:
            self.malformed += 1
        except OSError:
            self.dropped += 1

    def _end(self, descriptor: int) -> None:
        entry = self._connections.pop(descriptor)
        self._loop.unwatch(descriptor)
        if entry.forget_deadline is not None:
            entry.forget_deadline()
        close_peer(entry.peer)
        entry.socket.close()

    def _answer(self, peer: Peer, verb: Verb, argument: str) -> bytes:
        if not (self._may_read(peer) if verb.right == "read" else self._may_control(peer)):
            self.refused += 1
            self._duties.audit(f"{peer} asked for {verb.name} {argument}: refused".replace(" :", ":"))
            self._record_refusal(_entry(peer, verb, "refused", argument))
            return fit({"status": "refused", "text": f"no permission for {verb.name}"})
        if verb.right == "read":
            return fit({"status": "ok", "data": self._duties.reads[verb.name]()})
        status, text = self._control(verb, argument)
        self._duties.audit(f"{peer} asked for {verb.name} {argument}: {text}")
        self._duties.record(_entry(peer, verb, "permitted" if status == "ok" else "failed", f"{argument}: {text}"))
        return fit({"status": status, "text": text})

    def _record_refusal(self, entry: Entry) -> None:
        now = self._loop.clock.monotonic()
        if now - self._hour_began > 3600:
            self._hour_began, self._refused_this_hour = now, 0
        self._refused_this_hour += 1
        if self._refused_this_hour <= REFUSALS_AN_HOUR:
            self._duties.record(entry)

    def _control(self, verb: Verb, argument: str) -> tuple[str, str]:
        action = self._duties.controls.get(verb.name)
        if action is None:
            return "failed", "not available"
        try:
            return "ok", action(argument)
        except ValueError as error:
            return "failed", str(error)

    def _may_read(self, peer: Peer) -> bool:
        return peer.uid == 0 or self._group in peer.groups

    def _may_control(self, peer: Peer) -> bool:
        if peer.uid != 0:
            return False
        cgroup = cgroup_of(peer, self._duties.proc)
        return cgroup is not None and self._duties.outside(cgroup)


def _entry(peer: Peer, verb: Verb, decision: Decision, detail: str) -> Entry:
    return Entry("control", pid=peer.pid, uid=peer.uid, request=verb.name, decision=decision, detail=detail)


def listen(path: str | os.PathLike[str], group: int | None) -> socket.socket:
    """A listening socket at `path`, in place of whatever socket was there; 0660 root:group, or 0600 without a group.

    Nobody can connect before owner and mode are right. Giving it to a group needs CAP_CHOWN, or to be in the group;
    without either it stays 0600."""
    new = f"{os.fspath(path)}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        # The mode that bind gives to the file: set before there is one, instead of a umask for the whole process.
        os.fchmod(listener.fileno(), 0o600)
        listener.bind(new)
        if group is not None:
            with contextlib.suppress(PermissionError):
                os.chown(new, -1, group, follow_symlinks=False)
                os.chmod(new, 0o660)  # noqa: S103 - the group is meant to connect
        listener.listen(CONNECTIONS)
        os.replace(new, path)
    except OSError:
        listener.close()
        raise
    return listener


def group_id(name: str, file: str | os.PathLike[str] = "/etc/group") -> int | None:
    """The gid of the group called `name`, None without one. Reads the file itself: NSS would load modules into root."""
    try:
        with open(file, encoding="utf-8", errors="replace") as text:
            lines = text.read().splitlines()
    except OSError:
        return None
    for line in lines:
        fields = line.split(":")
        if len(fields) >= 3 and fields[0] == name and fields[2].isascii() and fields[2].isdecimal():
            return int(fields[2])
    return None


def fit(answer: dict[str, object], limit: int = MAX_ANSWER_BYTES) -> bytes:
    """`answer` as JSON of at most `limit` bytes: the longest list in its data is halved until it fits, `cut` is set."""
    packet = msgspec.json.encode(answer)
    while len(packet) > limit:
        answer = {**answer, "cut": True, "data": _shortened(answer.get("data"))}
        packet = msgspec.json.encode(answer)
    return packet


def _shortened(data: object) -> object:
    data = data if isinstance(data, dict) else {}
    lists = {key: value for key, value in data.items() if isinstance(value, list | tuple)}
    longest = max(lists, key=lambda key: len(lists[key]), default=None)
    if longest is None or not lists[longest]:
        return None
    return {**data, longest: lists[longest][: len(lists[longest]) // 2]}
