# SPDX-License-Identifier: Apache-2.0
"""The tenant's custom data where no systemd runs: a script that does what those of tenants do.

What the companion that runs it is granted is what a script may do; each grant has its line here.
"""

from collections.abc import Callable, Iterator

from ipc.messages import CommitCustomData, CommitFailed, Committed
from tests.least.place import Place
from tests.least.scenario import Reply, Scenario, nothing
from tests.least.shapes import with_a_real_lib, with_a_real_lib64, with_programs_in

KIND = "custom-data-here"
SCRIPT, RECORD, OUTPUT = "/run/rig/script", "/run/rig/record", "/var/log/agent-supervisor-custom-data.log"
PROOF = "/srv/told/done"
UNIT = "agent-supervisor-custom-data.service"
PYTHON = "python3 -c 'import os, select, socket, time; {}'"
# By the grant that it is there for: lines of sh, all of which have to succeed.
LINES = {
    "chown": "touch /srv/told/of-another; chown 4321:4321 /srv/told/of-another",
    "fowner": "chmod 0700 /srv/of-another",
    "dac_override": "echo x >/srv/closed/file",
    "kill": PYTHON.format("os.setuid(4321); time.sleep(100)") + " & sleep 0.3; kill $!",
    "setuid": PYTHON.format("os.setuid(4321)"),
    "setgid": PYTHON.format("os.setgid(4321)"),
    "unix": PYTHON.format('pair = socket.socketpair(); socket.socket(socket.AF_UNIX).bind("/srv/told/s")'),
    "netlink": "ip link show lo",
    "inet": PYTHON.format('s = socket.create_server(("127.0.0.1", 0)); socket.create_connection(s.getsockname())'),
    "inet6": PYTHON.format("socket.socket(socket.AF_INET6)"),
    "tenant": PYTHON.format("select.epoll().poll(0); os.setpriority(os.PRIO_PROCESS, 0, 1)") + "; sync",
    "files-own": "cp -a /srv/of-another /srv/told/copy",
    "/ tools, not rx": "echo x >/srv/told/written",
    "/ tools, not rw": "/usr/bin/id",
}


def scenarios() -> Iterator[Scenario]:
    order = CommitCustomData(SCRIPT, True, 30, ("/var/lib/agent-supervisor",))
    everything = "".join(f"{line}\n" for line in LINES.values())
    for needs, text in {"": everything, **{name: f"{line}\n" for name, line in LINES.items()}}.items():
        script = f"set -e\n{text}touch {PROOF}\n"
        name = f"a script that needs {needs}" if needs else "a script"
        yield Scenario(
            KIND, name, order, (Committed,), _has_run, _prepared(script), (("record", RECORD),), frozenset({needs})
        )
    about = frozenset({"CommitFailed in provisioning"})
    yield Scenario(KIND, "no record", order, (CommitFailed,), _has_failed, _prepared(""), about=about)
    yield from _by_systemd(order)


def _by_systemd(order: CommitCustomData) -> Iterator[Scenario]:
    """Where systemd runs the script is no child of ours, and has nothing of what its committer has not."""
    script, record = f"#!/bin/sh\ntouch {PROOF}\n", (("record", RECORD),)
    yield Scenario("custom-data", "a script", order, (Committed,), _has_run_there, _prepared_there(script), record)
    for shape in (with_a_real_lib, with_a_real_lib64, with_systemctl_in_bin):
        name = f"a machine {shape.__name__.replace('_', ' ')}"
        about = frozenset({f"/{shape.__name__.rpartition('_')[2]}"})
        prepare = _prepared_there(script, shape)
        yield Scenario("custom-data", name, order, (Committed,), _has_run_there, prepare, record, about)
    about = frozenset({"CommitFailed in provisioning"})
    yield Scenario("custom-data", "no record", order, (CommitFailed,), _has_failed, _prepared_there(""), about=about)


def with_systemctl_in_bin(place: Place) -> None:
    """As on a machine whose /bin is no link into /usr."""
    with_programs_in(place, "/bin", ("systemctl",))


def _prepared_there(script: str, shape: Callable[[Place], None] = nothing) -> Callable[[Place], None]:
    def prepare(place: Place) -> None:
        _prepared(script)(place)
        place.finally_run("sh", "-c", f"systemctl stop {UNIT}; systemctl reset-failed {UNIT}; true")
        shape(place)

    return prepare


def _has_run_there(place: Place, reply: Reply) -> None:
    fact = reply.last(Committed).fact
    assert "exit status 0" in fact, fact
    assert place.at(PROOF).exists()


def _prepared(script: str) -> Callable[[Place], None]:
    def prepare(place: Place) -> None:
        place.write(SCRIPT, script, 0o700)
        place.write(RECORD, b"", 0o600)
        place.keep(OUTPUT)
        place.folder("/srv/told")
        place.write("/srv/of-another", "x", 0o600, 4321, 4321)
        place.folder("/srv/closed", 0o700, 4321, 4321)

    return prepare


def _has_run(place: Place, reply: Reply) -> None:
    fact = reply.last(Committed).fact
    output = place.at(OUTPUT).read_text() if place.at(OUTPUT).exists() else ""
    assert "exit status 0" in fact, f"{fact.partition(';')[0]}: {output}"
    assert place.at(PROOF).exists()


def _has_failed(_: Place, reply: Reply) -> None:
    reply.last(CommitFailed)
