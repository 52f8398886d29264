# SPDX-License-Identifier: Apache-2.0
"""Owns `agent-supervisor ps`: asks the agent for its processes and shows them, once or again and again."""

import argparse

import msgspec
from msgspec.structs import replace

from policy import capability
from supervisor.cli import table, watching
from supervisor.cli.client import add_socket_option, ask
from supervisor.cli.measure import Usage, status_of, usage
from supervisor.cli.slice_usage import slice_usage
from supervisor.status import HANDLER, ProcessRow, Snapshot
from supervisor.verbs import PS


class _Seen(msgspec.Struct, frozen=True):
    """`usages` goes by the rows' names."""

    snapshot: Snapshot
    usages: dict[str, Usage]
    cut: bool


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    watching.add_options(parser)
    add_socket_option(parser)
    parser.set_defaults(carry_out=carry_out)


def carry_out(options: argparse.Namespace) -> int:
    """Show the processes. Raises as `client.ask` does, when watching only for the first look."""
    return watching.Showing(lambda: _look(options.socket), _lines, _as_data).show(options)


def _look(path: str) -> _Seen:
    answer = ask(path, PS)
    snapshot = msgspec.json.decode(answer.data, type=Snapshot)
    usages: dict[str, Usage] = {}
    rows = tuple(_measured(row, usages) for row in snapshot.processes)
    return _Seen(replace(snapshot, processes=rows), usages, answer.cut)


def _measured(row: ProcessRow, usages: dict[str, Usage]) -> ProcessRow:
    """Note what the process uses; for a handler what all in its slice do, of which the oldest is shown."""
    if row.kind != HANDLER:
        usages[row.name] = usage(row.pid)
        return row
    used = slice_usage(row.cgroup)
    usages[row.name] = Usage(used.memory_bytes, None, used.cpu_s)
    if not used.pids:
        return row
    kernels = status_of(used.pids[0])
    held = capability.names(int(kernels.get("CapBnd", "0"), 16))
    filters = int(kernels.get("Seccomp_filters", "0"))
    uid = int(kernels.get("Uid", "0").split()[0])
    return replace(row, pid=used.pids[0], uid=uid, capabilities=held, filters=filters)


def _lines(seen: _Seen, width: int) -> list[str]:
    return table.lines(seen.snapshot, seen.usages, width, cut=seen.cut)


def _as_data(seen: _Seen) -> dict[str, object]:
    """The agent's own answer, each process with what was measured here."""
    rows = [
        {**msgspec.to_builtins(row), **msgspec.to_builtins(seen.usages[row.name])} for row in seen.snapshot.processes
    ]
    return {"overview": msgspec.to_builtins(seen.snapshot.overview), "processes": rows, "cut": seen.cut}
