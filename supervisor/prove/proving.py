# SPDX-License-Identifier: Apache-2.0
"""Owns a whole proof: which attacks against which kinds, in two lanes at once, and the verdicts of all.

Runs in the process of `agent-supervisor prove`, as root. What it makes on the machine are groups of its own, which it
removes.
"""

import os
import select
import signal
import sys
import time
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from ipc.errors import AgentError, StateError
from policy.groups import stages
from policy.load import load, own_folder
from policy.placeholders import LIB, expand
from policy.profile import Compiled, Profile
from policy.reading import read_policy
from policy.running import running
from policy.sources import read_sources
from supervisor.audit.processes import holder
from supervisor.jail import capabilities
from supervisor.layout import Layout
from supervisor.prove import groups
from supervisor.prove.catalogue import Attack, Reach
from supervisor.prove.lane import Call, Lane
from supervisor.prove.probes_kernel import CANARY
from supervisor.prove.verdict import Verdict

LANES = 2
PATIENCE_S = 600.0
_REMOVAL_S = 5.0


class Order(msgspec.Struct, frozen=True):
    """What to prove: attacks on kinds of process, those of an account of this machine's (`accounts`), and what is left
    out of the confinement."""

    attacks: tuple[Attack, ...]
    reaches: tuple[Reach, ...]
    policies: Mapping[str, Compiled]
    accounts: tuple[Attack, ...] = ()
    without: frozenset[str] = frozenset()


def read_reaches() -> tuple[dict[str, Reach], dict[str, Compiled]]:
    """Every kind's reach, and the compiled policy: that of the running agent, the shipped one where none runs.

    ConfigError when there is none, OSError when the agent may not be looked at."""
    spawner = holder(f"{Layout().run}/lock")
    policy = load() if spawner is None else running(spawner)
    policies = {compiled.profile.kind: compiled for compiled in policy.programs}
    _, call_groups = read_policy(read_sources(own_folder()))
    profiles = [compiled.profile for compiled in policies.values()]
    calls = {profile.kind: stages(profile, profiles, call_groups)[1].reachable for profile in profiles}
    return {profile.kind: Reach(_expanded(profile), calls[profile.kind]) for profile in profiles}, policies


def _expanded(profile: Profile) -> Profile:
    """The supervisor fills in by itself where its library folder is."""
    places = {LIB: (Layout().lib,)}
    return msgspec.structs.replace(profile, paths=expand(profile.paths, places, f"profiles/{profile.kind}.toml"))


def prove(order: Order) -> tuple[Verdict, ...]:
    """All verdicts, by kind and then by attack. StateError when a lane breaks down, OSError from the kernel."""
    made: list[tuple[str, ...]] = []
    lanes: list[tuple[int, int]] = []
    try:
        for number in range(min(LANES, len(order.reaches))):
            made.append(groups.make(groups.name(number)))
            mine = order.reaches[number::LANES]
            call = Call(order.policies, frozenset(reach.profile.kind for reach in mine), made[-1], order.without)
            accounts = order.accounts if number == 0 else ()
            lanes.append(_begin(call, order.attacks, mine, accounts))
        verdicts = _collect([reader for _, reader in lanes])
    finally:
        _end([pid for pid, _ in lanes], made)
    places = {attack.id: place for place, attack in enumerate((*order.attacks, *order.accounts))}
    kinds = {reach.profile.kind: place for place, reach in enumerate(order.reaches)}
    return tuple(sorted(verdicts, key=lambda verdict: (kinds.get(verdict.kind, len(kinds)), places[verdict.attack])))


def _begin(
    call: Call, attacks: Sequence[Attack], reaches: Iterable[Reach], accounts: Iterable[Attack]
) -> tuple[int, int]:
    """Fork a lane: its pid, and the descriptor by which it tells."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _run_lane(call, attacks, reaches, accounts, writer)
    os.close(writer)
    return pid, reader


def _run_lane(
    call: Call, attacks: Sequence[Attack], reaches: Iterable[Reach], accounts: Iterable[Attack], writer: int
) -> None:
    """Never returns."""
    try:
        capabilities.die_with_parent()
        os.setsid()
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        os.environ[CANARY] = "1"
        lane = Lane(call)
        ours = (lane.prove(attack, reach) for reach in reaches for attack in attacks)
        for verdict in (*ours, *map(lane.prove_account, accounts)):
            if verdict is not None:
                os.write(writer, msgspec.json.encode(verdict) + b"\n")
        os.write(writer, b"\n")
    except (OSError, AgentError) as error:
        os.write(writer, msgspec.json.encode(f"{type(error).__name__}: {error}") + b"\n")
    finally:
        if sys.exc_info()[0] is not None:
            sys.__excepthook__(*sys.exc_info())
            sys.stderr.flush()
        os._exit(0)


def _collect(readers: Sequence[int]) -> list[Verdict]:
    texts = dict.fromkeys(readers, b"")
    deadline = time.monotonic() + PATIENCE_S
    waiting = set(readers)
    while waiting:
        ready, _, _ = select.select(list(waiting), [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise StateError("prove", f"not done within {PATIENCE_S:g} s")
        for reader in ready:
            piece = os.read(reader, 1 << 16)
            texts[reader] += piece
            if not piece:
                waiting.discard(reader)
                os.close(reader)
    return [verdict for text in texts.values() for verdict in _verdicts(text)]


def _verdicts(text: bytes) -> list[Verdict]:
    """What one lane told; StateError unless it came to its end."""
    *lines, rest = text.split(b"\n")
    if rest or not lines or lines[-1] != b"":
        why = lines[-1].decode("utf-8", "replace") if lines else "it told nothing"
        raise StateError("prove", f"a lane broke down: {why}")
    return [msgspec.json.decode(line, type=Verdict) for line in lines[:-1]]


def _end(pids: Sequence[int], made: Iterable[tuple[str, ...]]) -> None:
    """End the lanes, which take all theirs with them, and remove their groups."""
    for folders in made:
        for folder in folders:
            _kill_members(folder)
    for pid in pids:
        os.waitpid(pid, 0)
    deadline = time.monotonic() + _REMOVAL_S
    for folders in made:
        while not groups.remove(folders) and time.monotonic() < deadline:
            select.select([], [], [], 0.01)


def _kill_members(folder: str) -> None:
    for place, _, _ in os.walk(folder):
        try:
            with open(f"{place}/cgroup.procs", encoding="ascii") as members:
                pids = members.read().split()
        except OSError:
            continue
        for pid in pids:
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                continue


def succeeded(verdicts: Iterable[Verdict]) -> list[str]:
    """The attacks that succeeded beyond a policy; StateError when one could not be tried."""
    found = []
    for verdict in verdicts:
        if verdict.state == "broken":
            raise StateError("prove", f"{verdict.kind}: {verdict.attack} could not be tried: {verdict.detail}")
        if verdict.state == "succeeded":
            found.append(verdict.attack)
    return found
