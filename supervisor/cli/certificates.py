# SPDX-License-Identifier: Apache-2.0
"""Owns `agent-supervisor certificates`: those that the platform has sent this VM, until when, and who uses them."""

import argparse
import time

import msgspec

from supervisor.certificates_shown import Row, Shown
from supervisor.cli.client import add_socket_option, ask
from supervisor.cli.printable import printable
from supervisor.cli.table import duration
from supervisor.verbs import CERTIFICATES

EPILOG = """\
used by: handlers whose protected settings are for it. missing: such settings name it, and this VM does not have it.
problem: what was wrong with the host's last reply; where nothing could be had from it, those that are listed stay, and
the host is asked again with the next polls. Private keys are never shown: they are in the agent's own folder, readable
for root alone.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.epilog = EPILOG
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    add_socket_option(parser)
    parser.set_defaults(carry_out=carry_out)


def carry_out(options: argparse.Namespace) -> int:
    """Show them. Raises as `client.ask` does."""
    answer = ask(options.socket, CERTIFICATES)
    shown = msgspec.json.decode(answer.data, type=Shown)
    if options.json:
        print(msgspec.json.encode({**msgspec.to_builtins(shown), "cut": answer.cut}).decode())
    else:
        print("\n".join(map(printable, lines(shown, time.time(), cut=answer.cut))))
    return 0


def lines(shown: Shown, now: float, *, cut: bool = False) -> list[str]:
    """What to print; `now` is wall time, seconds since 1970."""
    text = [line for row in shown.certificates for line in _certificate(row, now)] or ["certificates: none"]
    text += [f"missing: {name}, which protected settings are for" for name in shown.missing]
    text += [f"problem: {problem}" for problem in shown.problems]
    text += ["FIPS: 3DES is not asked for, and OpenSSL is as this machine's configuration has it"] if shown.fips else []
    return [*text, *(["The list is longer than one answer may be; the rest is left out."] if cut else [])]


def _certificate(row: Row, now: float) -> list[str]:
    left_s = row.expires - now
    ends = f"in {duration(left_s)}" if left_s > 0 else f"{duration(-left_s)} ago"
    facts = {
        "subject": row.subject or "empty",
        "expires": f"{time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(row.expires))} ({ends})",
        "key": f"{row.kind}, {'with' if row.private_key else 'without'} its private key",
        "used by": ", ".join(row.used_by) or "nobody in the goal state in force",
    }
    return [row.thumbprint, *(f"  {name}: {text}" for name, text in facts.items())]
