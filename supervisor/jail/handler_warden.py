# SPDX-License-Identifier: Apache-2.0
"""Owns one command of a vendor's, from the order to the result: started once, heard, ended when its time is over.

A program by itself (`python -I -m supervisor.jail.handler_warden FOLDER`), started by systemd in the command's own
unit, as root. It must never take what a vendor wrote for anything but bytes.
"""

import _socket
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from supervisor.jail import (
    handler_capabilities,
    handler_contained,
    handler_folder,
    handler_output,
    handler_view,
    syscalls,
)
from supervisor.jail.handler_group import Group, stacks
from supervisor.jail.handler_output import Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from supervisor.jail.handler_order import HandlerOrder

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8"}
SHELL = "/bin/sh"
NOT_STARTED, NOT_EXECUTABLE = 127, 126
LOOK_S, LOOK_OFTEN_S = 0.25, 0.02
MOST_NOTES, MOST_NOTE = 16, 1000
SPARED = "-900"


def main(arguments: list[str]) -> int:
    """Carry out the order in the folder that is named; 0 when there is a result of it."""
    (folder,) = arguments
    be_spared(SPARED)
    try:
        command = Command(handler_folder.read_order(folder), folder, Group())
        handler_folder.begin(folder)
    except (OSError, ValueError) as error:
        say(f"nothing is run: {error}")
        return 1
    command.run()
    return 0


class Command:
    """The command of `order`, in the cgroup `group`; `folder` has its keys."""

    def __init__(self, order: "HandlerOrder", folder: str, group: Group) -> None:
        self._order = order
        self._folder = folder
        self._group = group
        self._notes: list[str] = []

    def run(self) -> None:
        """To its end, or until its time is over; then all of its cgroup is ended. The result stands in its folder."""
        began = time.monotonic()
        streams = self._streams()
        # What the child has to say of itself, before it is somebody else.
        said = os.memfd_create("said", os.MFD_CLOEXEC)
        child = os.fork()
        if child == 0:
            become(self._order, self._folder, streams[0].descriptor, streams[1].descriptor, said)
        timed_out = not wait(child, began + self._order.timeout_s, lambda: _cut(streams))
        hung = ""
        if timed_out:
            hung = "\n".join(stacks(self._group.others()))
            if not self._group.end():
                self._notes.append("some of its processes could not be ended")
        # One that hangs in the kernel is nobody's to wait for.
        _, status = os.waitpid(child, os.WNOHANG if timed_out else 0)
        exit_code = None if timed_out else os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - began
        self._notes += os.pread(said, 65536, 0).decode("utf-8", "replace").splitlines()
        if exit_code == NOT_EXECUTABLE:
            self._notes.append(
                f"exit status {NOT_EXECUTABLE}: the shell found the command and could not run it. Is it executable? "
                f"Is the file system of {self._order.base} mounted noexec?"
            )
        texts = [stream.text() for stream in streams]
        output = handler_output.combined(*texts)
        _cut(streams)
        notes = [note[:MOST_NOTE] for note in self._notes[:MOST_NOTES]]
        how = f"killed: it still ran after {self._order.timeout_s} s" if timed_out else f"exit code {exit_code}"
        self._log(
            *notes, f"{how}, {seconds:.1f} s", handler_output.whole(*texts), *((f"what hung:\n{hung}",) if hung else ())
        )
        handler_folder.write_result(
            self._folder,
            exit_code=exit_code,
            timed_out=timed_out,
            output=output,
            seconds=seconds,
            notes=notes,
            alone=(alone := not self._group.others()),
        )
        if alone:
            let_go()

    def _streams(self) -> tuple[Stream, Stream]:
        """In the handler's folder of logs, which is on a disk; else where the order is."""
        folders = [os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)]
        try:
            folders.insert(0, handler_output.log_folder(self._order))
        except OSError as error:
            self._notes.append(f"{self._order.log_folder}/{self._order.handler}: {error.strerror or error}")
        try:
            return Stream(*folders), Stream(*folders)
        finally:
            for folder in folders:
                os.close(folder)

    def _log(self, *lines: str) -> None:
        order = self._order
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        head = f"{moment} {order.verb} of version {order.version}: {order.line}"
        try:
            handler_output.log(order, "\n".join((head, *lines)) + "\n\n")
        except OSError as error:
            say(f"the log of commands can't be written: {error}")


def _cut(streams: tuple[Stream, ...]) -> bool:
    """Whether any of them has grown."""
    grown = False
    for stream in streams:
        # Where the file system can't, there is nothing to be done.
        with suppress(OSError):
            grown |= stream.cut()
    return grown


def wait(child: int, ends: float, cut: Callable[[], bool]) -> bool:
    """Until it has ended, or the moment `ends`; False for that. Meanwhile what it prints is `cut`."""
    pidfd = os.pidfd_open(child)
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    try:
        pause = LOOK_OFTEN_S
        while (left := ends - time.monotonic()) > 0:
            if poller.poll(max(1, int(min(left, pause) * 1000))):
                return True
            pause = LOOK_OFTEN_S if cut() else min(LOOK_S, 2 * pause)
        return False
    finally:
        os.close(pidfd)


def become(order: "HandlerOrder", folder: str, stdout: int, stderr: int, said: int) -> None:
    """The command, by way of its shell; it inherits nothing of ours."""
    be_spared("0")
    try:
        os.setsid()
        if order.uid:
            if order.outbound is not None:
                # Only then: it takes as long to load as all the rest.
                from supervisor.jail import handler_outbound

                handler_outbound.confine(order.outbound, f"agent-supervisor-handler-{os.path.basename(folder)}.service")
            handler_contained.enter(order, folder)
        else:
            os.write(said, "".join(f"{note}\n" for note in handler_view.enter(order, folder)).encode())
            handler_capabilities.drop(order.without)
        # Python, and systemd for its services, ignore them, and a command would inherit that.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.dup2(stdout, 1)
        os.dup2(stderr, 2)
        os.chdir(order.base)
        os.umask(0o022)
        syscalls.close_range(3, said - 1)
        syscalls.close_range(said + 1, 0xFFFFFFFF)
        home = {"HOME": order.base} if order.uid else {}
        os.execve(SHELL, [SHELL, "-c", order.line], ENVIRONMENT | home | dict(order.environment))
    except OSError as error:
        os.write(said, f"it could not be run: {error}\n".encode())
    finally:
        os._exit(NOT_STARTED)


def be_spared(how: str) -> None:
    """Of all who share a limit of memory, this one is to tell what came of the others. Whoever is contained can't."""
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(how)


def let_go() -> None:
    """Have systemd forget the unit with the end of this process, instead of keeping it for what lives on. It is told
    that this service stops: nobody has to ask for that later."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    with suppress(OSError):
        notify = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
        notify.sendto(b"STOPPING=1", path.replace("@", "\0", 1) if path.startswith("@") else path)


def say(text: str) -> None:
    """One line in the journal of the unit."""
    os.write(2, f"agent-supervisor: {text}\n".encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
