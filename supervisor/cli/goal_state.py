# SPDX-License-Identifier: Apache-2.0
"""Owns `agent-supervisor goal-state`: what the platform wants of this VM, and what came of it."""

import argparse
import time

import msgspec

from supervisor.cli.client import add_socket_option, ask
from supervisor.cli.printable import in_one_line, printable
from supervisor.goal_state.shown import Handler, InForce, Shown
from supervisor.verbs import GOAL_STATE


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument("--history", action="store_true", help="list the goal states of the past as well")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    add_socket_option(parser)
    parser.set_defaults(carry_out=carry_out)


def carry_out(options: argparse.Namespace) -> int:
    """Show it. Raises as `client.ask` does."""
    answer = ask(options.socket, GOAL_STATE)
    shown = msgspec.json.decode(answer.data, type=Shown)
    if not options.history:
        shown = msgspec.structs.replace(shown, history=())
    if options.json:
        data = msgspec.to_builtins(shown)
        if not options.history:
            del data["history"]
        print(msgspec.json.encode({**data, "cut": answer.cut}).decode())
    else:
        print("\n".join(map(printable, lines(shown, cut=answer.cut, history=options.history))))
    return 0


def lines(shown: Shown, *, cut: bool, history: bool) -> list[str]:
    """What to print."""
    text = ["goal state: none yet"] if shown.in_force is None else _in_force(shown.in_force)
    text += [f"trouble: {shown.trouble} ({shown.failed} polls failed in a row)"] if shown.trouble else []
    text += [f"waits: {shown.waits}"] if shown.waits else []
    text += [_handler(each) for each in shown.handlers]
    text += [f"account {each.name}: {each.stage}, until {_utc(each.ends)}" for each in shown.accounts]
    if history:
        kept = [f"  {each.taken}  {each.ids}  {each.path}" for each in shown.history]
        text += ["history:", *(kept or ["  empty"])]
    return [*text, *(["The list is longer than one answer may be; the rest is left out."] if cut else [])]


def _in_force(one: InForce) -> list[str]:
    marks = ", ".join(text for text, holds in (("outdated", one.outdated), ("on hold", one.on_hold)) if holds)
    facts = {
        "goal state": f"{one.id}, by the {one.source}{f' ({marks})' if marks else ''}",
        "created": one.created,
        "in force since": _utc(one.adopted),
        "outcome": _outcome(one),
        "incarnation": one.incarnation,
        "sequence number": one.in_svd_sequence_number,
        "activity": one.activity_id,
        "correlation": one.correlation_id,
        "status goes to": one.status_blob or "nowhere: the goal state names no place",
        "required features": ", ".join(one.required_features),
        "certificates": ", ".join(one.thumbprints),
    }
    return [f"{name}: {text}" for name, text in facts.items() if text]


def _outcome(one: InForce) -> str:
    if one.ended:
        return f"{f'code {one.code}: {one.message}' if one.code else 'processed'}, at {_utc(one.ended)}"
    return "not carried out" if one.outdated or one.on_hold else f"under way since {_utc(one.adopted)}"


def _handler(one: Handler) -> str:
    name = f"{one.name} {one.version}{f' ({one.extension})' if one.extension else ''}"
    number = "" if one.sequence_number is None else f", settings {one.sequence_number}"
    told = f"{one.status}, code {one.code}, {in_one_line(one.message)}"
    return f"handler {name}, {one.wanted or 'no state'}{number}: {told}"


def _utc(wall: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(wall))
