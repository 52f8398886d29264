# SPDX-License-Identifier: Apache-2.0
"""A vendor's command, had started by systemd, looked at and ended; what it leaves running keeps its unit known."""

from collections.abc import Callable, Iterator

import msgspec

from ipc.messages import AskCommand, CommandStanding, CommitFailed, Committed, EndCommand, HandlerLimits, StartCommand
from supervisor.jail.handler_order import HandlerOrder
from tests.fabric.lab import LabError
from tests.fabric.waiting import until
from tests.least.of_custom_data import with_systemctl_in_bin
from tests.least.place import Place
from tests.least.scenario import Reply, Scenario, nothing
from tests.least.shapes import with_a_real_lib, with_a_real_lib64

KIND = "handler-start"
NUMBER = 77
FOLDER, UNIT = f"/run/agent-supervisor/handlers/{NUMBER}", f"agent-supervisor-handler-{NUMBER}.service"
PROOF = "/srv/told/done"
SLICE = "azure-vmextensions-Vendor.One.slice"
MASKED = "azure-vmextensions-Masked.slice"
ORDER = HandlerOrder(
    "Vendor.One",
    "1.0",
    "",
    "enable",
    f"touch {PROOF}; sleep 0.5",
    20,
    (),
    "/srv/told",
    (),
    "",
    "/srv/lib",
    "/srv/log",
    (),
)
START = StartCommand(NUMBER, "a command", SLICE, HandlerLimits(), 20)
LEAVES = ("systemd-run", "-q", f"--unit={UNIT}", "--remain-after-exit", "sh", "-c", "setsid sleep 100 &")


def scenarios() -> Iterator[Scenario]:
    ran = (CommandStanding,)
    yield Scenario(KIND, "a command", START, ran, _has_run, _prepared(), phase="steady")
    for shape in (with_a_real_lib, with_a_real_lib64, with_systemctl_in_bin):
        name = f"a machine {shape.__name__.replace('_', ' ')}"
        about = frozenset({f"/{shape.__name__.rpartition('_')[2]}"})
        yield Scenario(KIND, name, START, ran, _has_run, _prepared(shape), about=about, phase="steady")
    kept, about = EndCommand(NUMBER, kill=False), frozenset({"/sys/fs/cgroup", "Committed in steady"})
    yield Scenario(
        KIND, "something lives on", kept, (Committed,), _stays, _prepared(_left), about=about, phase="steady"
    )
    yield Scenario(KIND, "an unknown one", AskCommand(NUMBER), ran, _is_unknown, _prepared(), phase="steady")
    refused = msgspec.structs.replace(START, slice=MASKED)
    about = frozenset({"CommitFailed in steady"})
    yield Scenario(KIND, "no", refused, (CommitFailed,), _has_failed, _prepared(_masked), about=about, phase="steady")


def _prepared(shape: Callable[[Place], None] = nothing) -> Callable[[Place], None]:
    def prepare(place: Place) -> None:
        place.write(f"{FOLDER}/order", msgspec.msgpack.encode(ORDER), 0o600)
        for path in ("/srv/told", "/srv/lib", "/srv/log"):
            place.folder(path)
        place.finally_run("sh", "-c", f"systemctl stop {UNIT}; systemctl reset-failed {UNIT}; true")
        shape(place)

    return prepare


def _masked(place: Place) -> None:
    place.link(f"/run/systemd/system/{MASKED}", "/dev/null")


def _left(place: Place) -> None:
    place.run(*LEAVES)
    until("its first process ended", lambda: _sub_state(place, "exited"))


def _sub_state(place: Place, state: str) -> bool:
    try:
        place.run("sh", "-c", f'[ "$(systemctl show --property=SubState --value {UNIT})" = {state} ]')
    except LabError:
        return False
    return True


def _has_run(place: Place, reply: Reply) -> None:
    standing = reply.last(CommandStanding)
    assert standing.is_known
    assert standing.is_running
    assert len(reply.contents[-1]) == 1
    until("the command", place.at(PROOF).exists, 5.0)


def _stays(place: Place, reply: Reply) -> None:
    assert "stays" in reply.last(Committed).fact
    assert _sub_state(place, "exited")


def _is_unknown(_: Place, reply: Reply) -> None:
    assert not reply.last(CommandStanding).is_known


def _has_failed(_: Place, reply: Reply) -> None:
    reply.last(CommitFailed)
