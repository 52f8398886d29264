# SPDX-License-Identifier: Apache-2.0
"""Committer of custom data where systemd runs (provisioning.md 8): has it run once, as a unit that is no child of ours.

Root without a capability: the script has all that root has, and nothing of it passes through here. It must never have
it started when it cannot be told that it was not started before.
"""

import sys
from collections.abc import Callable, Iterable
from functools import partial

from ipc.channel import Channel
from ipc.descriptors import close_all
from ipc.errors import CommitError
from ipc.messages import CommitCustomData, Committed
from workers.committers import once
from workers.committers.once import Once
from workers.committers.tools import Tools
from workers.committers.transient_unit import STOP_PATIENCE_S, Shown, Unit
from workers.companion import companion
from workers.runtime import Answer, serve_once

UNIT = "agent-supervisor-custom-data.service"
DESCRIPTION = "Custom data of this VM"
# By its name, as everything that systemd starts: the program that leaves our folders and descriptors behind.
LAUNCHER = "supervisor.jail.unconfined"
# For systemd to notice an end, beyond its own patience with whoever does not stop.
MARGIN_S = 20


def run_custom_data(order: CommitCustomData, record: Once, unit: Unit) -> str:
    """Start it unless it was started before, wait for its end, and say how it ended."""
    stage = record.stage
    if stage == "in another boot":
        return "not run again: the machine was started anew while it ran"
    if not stage:
        # A unit of that name can only be of an earlier provisioning in this boot.
        if unit.show().is_loaded:
            unit.forget()
        record.note("begun")
    if stage in {"", "begun"} and not unit.show().is_loaded:
        unit.start(DESCRIPTION, order.timeout_s, _program(order))
    if stage != "started":
        record.note("started")
    return _ending(order, unit.wait(order.timeout_s + STOP_PATIENCE_S + MARGIN_S))


def _program(order: CommitCustomData) -> tuple[str, ...]:
    script = ("/bin/sh", order.path) if order.with_shell else (order.path,)
    return (sys.executable, "-I", "-m", LAUNCHER, *order.hidden, "--", *script)


def _ending(order: CommitCustomData, shown: Shown) -> str:
    if not shown.is_loaded:
        return f"it is over; {UNIT} was removed from systemd before its exit status was read"
    where = f"its output: journalctl -u {UNIT}"
    if shown.timed_out:
        return f"ended because it still ran after {order.timeout_s} s (Provisioning.CustomDataTimeout); {where}"
    how = f"ended by signal {shown.status}" if shown.signalled else f"exit status {shown.status}, which is ignored"
    return f"ran {shown.seconds:.1f} s, {how}; {where}"


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry (workers.runtime)."""
    with companion() as ask_companion:
        serve_once(channel, lock, {CommitCustomData: partial(_on_order, Unit(UNIT, Tools(ask_companion)))})


def _on_order(unit: Unit, order: CommitCustomData, descriptors: tuple[int, ...]) -> Iterable[Answer]:
    try:
        fact = run_custom_data(order, once.from_order(descriptors), unit)
    except OSError as error:
        raise CommitError(f"custom data: {error}") from error
    finally:
        close_all(descriptors)
    yield Committed((), fact[:1024])
