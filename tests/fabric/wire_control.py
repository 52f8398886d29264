# SPDX-License-Identifier: Apache-2.0
"""Owns the emulated WireServer as a program of its own: command line, and a Unix socket to steer it while it runs.

Runs in test processes, the server's and those that steer it (a path's socket is reached from any network namespace).
"""

import argparse
import inspect
import json
import os
import signal
import socket
import sys
import textwrap
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.fabric import publishing
from tests.fabric.acceptor import Acceptor
from tests.fabric.documents import GoalState
from tests.fabric.faults import WHERES
from tests.fabric.misbehaviour import KINDS
from tests.fabric.neighbours import Places
from tests.fabric.plan import read_plan
from tests.fabric.wire_rules import VM, Offer
from tests.fabric.wireserver import Options, WireServer

SIGNALS = (signal.SIGTERM, signal.SIGINT)
HELP, EXIT_USAGE = {"help", "-h", "--help"}, 2
COMMAND_BYTES = 16 * 1024 * 1024


class Control:
    """The commands, and the socket they come by.

    One connection carries one command line and one JSON answer: {"ok": true, ...} or {"ok": false, "error": text}.

        state                                   what the host knows and saw, in short
        publish, fast, envelopes, plugin, ...   as publishing.py has them
        fault SPEC                              add a fault, such as any:status=503; or any:refuse[=SECONDS], which
                                                meets new connections alone: those that stand are kept
        clear                                   forget all faults, listen again
        channel [identity=NAME] WORD...         change the secure channel (host_channel.Channel.set has the words)
        caller ADDRESS NAME                     who calls from there has a secure channel of his own
        clock SECONDS                           so far is the host's clock ahead
        wait STATE[/SUBSTATUS] SECONDS          until the last accepted health report says so
        stop                                    end the program

    Steer it from a shell: python -m tests.fabric.wire_control SOCKET COMMAND...
    """

    def __init__(self, server: WireServer, path: Path) -> None:
        self._server = server
        self._path = path
        self._acceptor = Acceptor("control", self._listen, self._serve)

    def __enter__(self) -> "Control":
        self._acceptor.open()
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.stop()  # ends the waits in which commands may be
        self._acceptor.stop()
        self._path.unlink(missing_ok=True)

    def answer(self, command: str) -> dict[str, Any]:
        """Carry out one command line."""
        match command.split():
            case ["state"]:
                return self._server.state()
            case [name, *_] if name in publishing.COMMANDS:
                return publishing.publish(self._server, command)
            case ["fault", *words]:
                self._server.fault(" ".join(words))
            case ["clear"]:
                self._server.clear_faults()
            case ["channel" | "caller" | "clock", *_]:
                self._change_channel(command.split())
            case ["wait", state, seconds]:
                self._wait(state, float(seconds))
            case ["stop"]:
                pass  # the answer goes first
            case _:
                raise ValueError(f"no such command: {command!r}")
        return {}

    def _change_channel(self, command: list[str]) -> None:
        match command:
            case ["channel", *words]:
                named = [word.partition("=")[2] for word in words if word.startswith("identity=")]
                others = [word for word in words if not word.startswith("identity=")]
                self._server.set_channel(*others, identity=named[-1] if named else VM)
            case ["caller", address, identity]:
                self._server.name_caller(address, identity)
            case ["clock", ahead_s]:
                self._server.set_clock(float(ahead_s))
            case _:
                raise ValueError(f"no such command: {' '.join(command)!r}")

    def _wait(self, wanted: str, timeout_s: float) -> None:
        state, _, sub_status = wanted.partition("/")

        def reported(server: WireServer) -> bool:
            health = server.health
            return health is not None and health.state == state and sub_status in {"", health.sub_status}

        self._server.wait_for(reported, timeout_s)

    def _listen(self) -> socket.socket:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(self._path))
            listener.listen(16)
        except OSError:
            listener.close()
            raise
        return listener

    def _serve(self, client: socket.socket) -> None:
        client.settimeout(5)
        with client.makefile("rb") as lines:
            command = lines.readline(COMMAND_BYTES).decode(errors="replace").strip()
        try:
            answer = {"ok": True, **self.answer(command)}
        except (ValueError, TimeoutError) as error:
            answer = {"ok": False, "error": str(error)}
        client.sendall(json.dumps(answer).encode() + b"\n")
        if command == "stop":
            os.kill(os.getpid(), signal.SIGTERM)


def ask(path: Path, command: str, timeout_s: float = 60.0) -> dict[str, Any]:
    """Send `command` to the server that is steered at `path`; its answer. Raises ValueError with its error, OSError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(timeout_s)
        client.connect(str(path))
        client.sendall(command.encode() + b"\n")
        with client.makefile("rb") as lines:
            answer: dict[str, Any] = json.loads(lines.readline() or b'{"ok": false, "error": "no answer"}')
    if not answer.pop("ok"):
        raise ValueError(answer["error"])
    return answer


def usage() -> str:
    """Every command, as those who carry them out describe them."""
    own, published = (inspect.cleandoc(each.__doc__ or "").split("\n\n") for each in (Control, publishing.publish))
    faults = f"faults: WHERE:NAME[=ARGUMENT][*COUNT][+SKIP], WHERE one of {', '.join(WHERES)}; NAME one of"
    named = textwrap.wrap(f"{faults} {', '.join(KINDS)}", 110, subsequent_indent="    ", break_on_hyphens=False)
    called = "usage: python -m tests.fabric.wire_control SOCKET COMMAND..."
    return "\n\n".join([called, own[2], textwrap.indent(published[1], "    "), "\n".join(named)])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="wireserver", description="The emulated WireServer.")
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="ADDRESS:PORT")
    parser.add_argument("--not-emulated", action="append", default=[], metavar="ADDRESS:PORT", help="refuse all there")
    parser.add_argument("--record", type=Path, metavar="FILE.jsonl", help="one JSON line a request, appended")
    parser.add_argument("--control", type=Path, metavar="SOCKET", help="a Unix socket to steer it by")
    parser.add_argument("--fault", action="append", default=[], metavar="WHERE:NAME[=ARGUMENT][*COUNT][+SKIP]")
    parser.add_argument("--channel", default="absent", metavar="WORDS", help="the secure channel, see `channel` above")
    parser.add_argument("--plan", default="{}", metavar="JSON", help="what the first goal state wants (plan.Plan)")
    parser.add_argument("--certificates", default="", metavar="KINDS", help="what the tenant has (tenant.KINDS)")
    parser.add_argument("--plugin", metavar="ADDRESS:PORT", help="the HostGAPlugin listens there")
    parser.add_argument("--metadata", metavar="ADDRESS:PORT", help="the instance metadata service listens there")
    parser.add_argument("--storage", metavar="ADDRESS:PORT", help="the storage account listens there")
    parser.add_argument("--account", default="", metavar="URL", help="scheme and host of its URLs")
    parser.add_argument("--identity", type=Path, metavar="FILE.pem", help="its certificate and key; without: no TLS")
    parser.add_argument("--proxy", metavar="ADDRESS:PORT", help="a proxy listens there")
    parser.add_argument("--incarnation", type=int, default=1)
    parser.add_argument("--incomplete", type=int, default=0, help="goal state answers without role instance at first")
    parser.add_argument("--byte-order-mark", action="store_true")
    return parser.parse_args()


def _places(arguments: argparse.Namespace) -> Places:
    told = {name: getattr(arguments, name) for name in ("plugin", "metadata", "storage", "proxy")}
    addresses = {name: _address(written) for name, written in told.items() if written}
    return Places(identity=arguments.identity, **addresses)


def _address(written: str) -> tuple[str, int]:
    host, _, port = written.rpartition(":")
    return host, int(port)


def serve() -> int:
    """Run until SIGTERM, SIGINT or the command `stop`; prints "listening ADDRESS:PORT" when ready."""
    arguments = _arguments()
    absent = tuple(map(_address, arguments.not_emulated))
    goal_state = GoalState(incarnation=arguments.incarnation, plan=read_plan(arguments.plan))
    offer = Offer(
        goal_state=goal_state,
        incomplete=arguments.incomplete,
        byte_order_mark=arguments.byte_order_mark,
        storage=arguments.account,
        certificates=tuple(filter(None, arguments.certificates.split(","))),
    )
    options = Options(offer, arguments.record, not_emulated=absent, neighbours=_places(arguments))
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # before any thread starts: sigwait alone takes them
    with ExitStack() as stack:
        server = stack.enter_context(WireServer(_address(arguments.listen), options=options))
        if arguments.control is not None:
            stack.enter_context(Control(server, arguments.control))
        server.set_channel(*arguments.channel.split())
        for fault in arguments.fault:
            server.fault(fault)
        print(f"listening {server.address[0]}:{server.address[1]}", flush=True)
        signal.sigwait(SIGNALS)
    return 0


def main() -> int:
    """Steer a running server: SOCKET COMMAND..."""
    words = sys.argv[1:]
    if HELP & {*words[:2]}:
        print(usage())
        return 0
    if len(words) < len(("SOCKET", "COMMAND")):
        print(usage(), file=sys.stderr)
        return EXIT_USAGE
    try:
        print(json.dumps(ask(Path(words[0]), " ".join(words[1:]))))
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
