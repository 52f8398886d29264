# SPDX-License-Identifier: Apache-2.0
"""Owns `agent-supervisor status`: where provisioning stands, for people; the exit status is the answer for scripts."""

import argparse
import sys
import time

import msgspec

from supervisor.cli.client import NOT_RUNNING, add_socket_option, ask
from supervisor.cli.printable import printable
from supervisor.status import Status, changes_sentence
from supervisor.verbs import STATUS

LOOK_AGAIN_S = 0.25
# An agent that has just begun has not looked yet how far it came before: that is no answer.
JUST_BEGUN_S, LOOK_SOON_S = 1.0, 0.05
EXIT_WELL, EXIT_ERROR, EXIT_RECOVERABLE = 0, 1, 2
# What a dying agent does to those who ask it, beside being no longer there.
CUT_OFF = (ConnectionError, TimeoutError)

EPILOG = """\
status is one of: not started; running; done; error; disabled (nobody is to provision).

exit status: 0 done, disabled, running or not started; 1 error, or no usable answer; 2 done, but something that a VM
can live without is missing yet (Ready not accepted by the host, its role properties, the transport key), or wrong
usage; 3 the agent is not running; 4 no permission to ask it. With --wait it is always that of the end.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument(
        "--wait",
        action="store_true",
        help="return when provisioning is over; an agent that is not running yet, or starts again, is waited for",
    )
    parser.add_argument("--long", action="store_true", help="tell since when, what went wrong, and what happens next")
    parser.add_argument("--json", action="store_true", help="all of that as one JSON object")
    add_socket_option(parser)
    parser.set_defaults(carry_out=carry_out)


def carry_out(options: argparse.Namespace) -> int:
    """Print it. Raises as `client.ask` does; with --wait only what waiting would not mend."""
    status = _wait(options.socket) if options.wait else _look_in_time(options.socket)
    if options.json:
        print(msgspec.json.encode(status).decode())
    else:
        print("\n".join(_lines(status, told_all=options.long)))
    return exit_status(status)


def exit_status(status: Status) -> int:
    """By outcome, as EPILOG says."""
    if status.status == "error":
        return EXIT_ERROR
    return EXIT_RECOVERABLE if status.is_over and status.troubles else EXIT_WELL


def _look(path: str) -> Status:
    return msgspec.json.decode(ask(path, STATUS).data, type=Status)


def _look_in_time(path: str) -> Status:
    status, ends = _look(path), time.monotonic() + JUST_BEGUN_S
    while status.status == "not started" and time.monotonic() < ends:
        time.sleep(LOOK_SOON_S)
        status = _look_or_none(path) or status
    return status


def _wait(path: str) -> Status:
    dots = False
    while (status := _look_or_none(path)) is None or not status.is_over:
        if sys.stdout.isatty():
            dots = True
            print(".", end="", flush=True)
        time.sleep(LOOK_AGAIN_S)
    if dots:
        print()
    return status


def _look_or_none(path: str) -> Status | None:
    try:
        return _look(path)
    except (*NOT_RUNNING, *CUT_OFF):
        return None


def _lines(status: Status, *, told_all: bool) -> list[str]:
    lines = [f"status: {status.status}"]
    if told_all:
        since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(status.since))
        facts = {
            "since": since,
            "detail": "" if status.error or status.detail == status.status else status.detail,
            "error": status.error,
            "changed": "" if status.changed is None else changes_sentence(changed=status.changed),
            "next": status.next,
            "missing": "; ".join(status.troubles),
            "ready": "accepted by the host" if status.ready else "not accepted by the host",
            "provisioned by": status.agent,
        }
        lines += [f"{name}: {printable(text)}" for name, text in facts.items() if text]
    return lines
