# SPDX-License-Identifier: Apache-2.0
"""What a vendor's command sees and takes over, control by control: each gives way once it is taken away."""

import itertools
import json
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from supervisor.jail.handler_order import HandlerOrder
from tests.fabric.lab import PROJECT, Lab, PlacedFile
from tests.jail.mutants import Mutation

if TYPE_CHECKING:
    from subprocess import CompletedProcess

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

LIB, LOGS, RUN, STATE = "/var/lib/waagent", "/var/log/azure", "/run/agent-supervisor", "/var/lib/agent-supervisor"
BASE, OTHER, OWN = f"{LIB}/Vendor.One-1.0", f"{LIB}/Vendor.Two-1.0", "A" * 40
WARDEN, VIEW = "supervisor.jail.handler_warden", "supervisor.jail.handler_view"
LEFT = f"{LIB}/.Vendor.Two-0.9.gone12"
NUMBERS = itertools.count(1)
# Is the warden, mutated as the first argument says.
START = (
    "import importlib, json, sys; from tests.jail import mutants; mutants.install(json.loads(sys.argv[1])); "
    f"sys.exit(importlib.import_module('{WARDEN}').main(sys.argv[2:]))"
)
ATTACK = f"""#!/bin/sh
if [ -n "$(ls -A {OTHER})" ]; then echo another handler; elif [ -n "$(ls -A {LEFT})" ]; then echo leftovers; fi
grep -qs stale {LIB}/*.prv && echo keys
grep -qs secrets {LIB}/CustomData && echo custom data
for each in {STATE} {RUN}; do [ -z "$(ls -A $each)" ] || echo folder; done
[ -e /proc/$$/fd/7 ] && echo descriptor
[ -n "$SECRET" ] && echo environment
[ "$(pwd)" = {BASE} ] || echo working folder
[ "$(umask)" = 0022 ] || echo umask
[ "$(sh -c 'kill -PIPE $$; echo lives')" = lives ] && echo signals
case " $$ $PPID " in *" $(ps -o sid= -p $$ | tr -d ' ') "*) ;; *) echo session;; esac
grep -qs own {LIB}/{OWN}.prv || echo no key
mount -t tmpfs data /mnt
true
"""
CONTROLS = {
    "another handler": Mutation(VIEW, '        mounts.cover((f"/proc/self/fd/{place}",))\n', "        pass\n"),
    "leftovers": Mutation(VIEW, '".old", ".gone")', '".old")'),
    "keys": Mutation(VIEW, 'SECRET_ENDS = (".prv", ', "SECRET_ENDS = ("),
    "custom data": Mutation(VIEW, '("CustomData", ', "("),
    "folder": Mutation(VIEW, "            mounts.cover((path,))\n", "            pass\n"),
    "descriptor": Mutation(
        WARDEN, "        syscalls.close_range(said + 1, 0xFFFFFFFF)\n", "        os.set_inheritable(7, True)\n"
    ),
    "environment": Mutation(WARDEN, "ENVIRONMENT | home", "dict(os.environ) | home"),
    "working folder": Mutation(WARDEN, "        os.chdir(order.base)\n", ""),
    "umask": Mutation(WARDEN, "        os.umask(0o022)\n", ""),
    "signals": Mutation(WARDEN, "            signal.signal(number, signal.SIG_DFL)\n", "            pass\n"),
    "session": Mutation(WARDEN, "        os.setsid()\n", ""),
    "no key": Mutation(VIEW, '            _show(f"{keys_in}/{name}", name, inside)\n', "            pass\n"),
}
NOT_SHARED = Mutation(
    VIEW, '                syscalls.share_as(root, f"/proc/self/fd/{mount}/.")\n', "                pass\n"
)
NOT_EXECUTABLE = Mutation(VIEW, "            mounts.make_executable(self.lib)\n", "            pass\n")
# A secret in the environment, a file of ours open, in a folder of ours.
LIFE = f'exec 7<{RUN}/secret; cd {RUN}; umask 077; SECRET=1 exec "$@"'


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with made() as lab:
        lab.output("mount", "--make-rshared", "/")
        yield lab


def made() -> Lab:
    files: dict[str, bytes | PlacedFile] = {
        f"{BASE}/bin/attack": PlacedFile(ATTACK.encode(), 0o755),
        f"{OTHER}/config/0.settings": b"another's\n",
        f"{LEFT}/config/0.settings": b"another's\n",
        f"{LIB}/{'B' * 40}.prv": b"stale\n",
        f"{LIB}/CustomData": b"secrets\n",
        f"{STATE}/secret": b"ours\n",
    }
    return Lab(files)


def run(lab: Lab, line: str, *mutations: Mutation, timeout_s: int = 20) -> Any:
    """The result of a command, by a warden that is started here and not by systemd."""
    number = prepared(lab, line, timeout_s)
    done = start(lab, number, *mutations)
    assert done.returncode == 0, done.stderr
    return result(lab, number)


def prepared(lab: Lab, line: str, timeout_s: int = 20) -> int:
    """The number of an order for it."""
    number = next(NUMBERS)
    folder = lab.path(f"{RUN}/handlers/{number}")
    folder.mkdir(parents=True)
    lab.path(f"{RUN}/secret").write_bytes(b"ours\n")
    order = HandlerOrder(
        "Vendor.One", "1.0", "", "enable", line, timeout_s, (), BASE, ("Vendor.One-1.0",), OWN, LIB, LOGS, (STATE, RUN)
    )
    (folder / "order").write_bytes(msgspec.msgpack.encode(order))
    for name in (f"{OWN}.crt", f"{OWN}.prv"):
        (folder / name).write_bytes(b"own\n")
    return number


def result(lab: Lab, number: int) -> Any:
    """What the warden has left."""
    return msgspec.msgpack.decode(lab.path(f"{RUN}/handlers/{number}/result").read_bytes())


def start(lab: Lab, number: int, *mutations: Mutation, before: tuple[str, ...] = ()) -> "CompletedProcess[str]":
    """A warden for the order of that number, to its end; started by way of `before`."""
    words = [*before, sys.executable, "-c", START, json.dumps(mutations), f"{RUN}/handlers/{number}"]
    return lab.run(["sh", "-c", LIFE, "sh", *words], env={"PYTHONPATH": str(PROJECT)}, cgroup=f"command{number}")


def attack(lab: Lab, *mutations: Mutation) -> set[str]:
    """What the attack came by; "mount" when its mount is the machine's, and what the warden said."""
    result = run(lab, f"{BASE}/bin/attack", *mutations)
    mounted = lab.run(["umount", "/mnt"]).returncode == 0
    printed = result["output"].partition("[stdout]\n")[2].partition("\n\n[stderr]")[0]
    return {*printed.splitlines(), *(["mount"] if mounted else []), *result["notes"]} - {""}


def test_it_sees_its_own_and_takes_nothing_over(lab: Lab) -> None:
    assert attack(lab) == {"mount"}
    assert lab.output("cat", f"{OTHER}/config/0.settings") == "another's\n"
    assert lab.output("cat", f"{LIB}/{OWN}.prv") == ""


@pytest.mark.parametrize("control", CONTROLS)
def test_without_a_control_just_that_gives_way(lab: Lab, control: str) -> None:
    assert attack(lab, CONTROLS[control]) == {control, "mount"}


def test_where_its_view_can_t_be_made_it_is_not_run(lab: Lab) -> None:
    lab.output("mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=6", "full", LIB)
    try:
        lab.output("sh", "-c", f"mkdir {BASE}; cd {LIB}; for each in 1 2 3 4; do echo stale >$each.prv; done; true")
        refused = run(lab, f"cat {LIB}/*.prv {STATE}/secret")
        assert (refused["exit_code"], refused["output"].split()) == (127, ["[stdout]", "[stderr]"])
        assert "No space left on device" in refused["notes"][-1]
    finally:
        lab.output("umount", LIB)
    # The same, for a capability that the warden itself lacks.
    number = prepared(lab, f"cat {OTHER}/config/0.settings")
    lacks = ("setpriv", "--bounding-set", "-sys_admin")
    assert start(lab, number, before=lacks).returncode == 0
    assert result(lab, number)["exit_code"] == 127


def test_unless_it_joins_its_peers_again_its_mounts_are_its_own(lab: Lab) -> None:
    assert attack(lab, NOT_SHARED) == set()


AGAIN = Mutation("supervisor.jail.handler_folder", "os.O_CREAT | os.O_EXCL | ", "os.O_CREAT | ")


def test_an_order_that_was_begun_is_refused_and_that_is_all_that_keeps_it_from_running_again(lab: Lab) -> None:
    run(lab, "echo x >>again")
    number = next(NUMBERS) - 1
    refused = start(lab, number)
    assert (refused.returncode, "nothing is run" in refused.stderr) == (1, True)
    assert lab.output("cat", f"{BASE}/again") == "x\n"
    assert start(lab, number, AGAIN).returncode == 0
    assert lab.output("cat", f"{BASE}/again") == "x\nx\n"


FIRST_ALONE = Mutation(WARDEN, "            if not self._group.end():\n", "            if os.kill(child, 9):\n")


def test_who_hid_from_his_session_is_ended_as_one_of_the_cgroup(lab: Lab) -> None:
    hides = "setsid sh -c 'setsid sleep 4398 & sleep 4398' & sleep 4398"
    for mutations, left in ((), False), ((FIRST_ALONE,), True):
        assert run(lab, hides, *mutations, timeout_s=1)["timed_out"]
        found = [process.pid for process in lab.processes() if process.argv == ("sleep", "4398")]
        assert bool(found) == left
        for pid in found:
            lab.kill(pid)


def test_a_flood_leaves_its_start_unless_nobody_cuts_it(lab: Lab) -> None:
    flood = "exec 3>&1; yes | head -c 50000000; sleep 0.6; stat -L -c %b /proc/self/fd/3 >room"
    rooms = []
    for mutations in (), (Mutation(WARDEN, "            grown |= stream.cut()\n", "            pass\n"),):
        run(lab, flood, *mutations)
        rooms.append(int(lab.output("cat", f"{BASE}/room")) * 512)
    assert rooms[0] < 1_000_000
    assert rooms[1] >= 50_000_000


def test_where_nothing_is_shared_it_sees_its_own_all_the_same_and_that_is_said() -> None:
    with made() as private:
        seen = attack(private)
        assert len(seen) == 1, seen
        assert seen.pop().startswith("what it mounts stays in its own view: ")


def test_a_folder_that_is_mounted_noexec_is_not_so_for_its_command(lab: Lab) -> None:
    # As a disk of its own, no peer of the root's.
    separate = "mount --bind /var /var; mount --make-private /var; mount --make-shared /var"
    lab.output("sh", "-ec", f"{separate}; mount -o remount,bind,noexec,nosuid /var")
    try:
        assert lab.run([f"{BASE}/bin/attack"]).returncode == 126
        assert attack(lab) == {"mount"}
        flags = "findmnt -no OPTIONS -T ."
        assert "nosuid" in run(lab, flags)["output"]
        # What it mounts in there is the machine's, too, and its covers are not.
        run(lab, f"mkdir -p {LIB}/store; mount -t tmpfs inner {LIB}/store")
        assert lab.output("findmnt", "-no", "SOURCE", f"{LIB}/store").strip() == "inner"
        lab.output("umount", f"{LIB}/store")
        assert lab.output("cat", f"{OTHER}/config/0.settings") == "another's\n"
        refused = run(lab, f"{BASE}/bin/attack", NOT_EXECUTABLE)
        assert refused["exit_code"] == 126
        assert "noexec" in refused["notes"][-1]
    finally:
        lab.output("umount", "/var")
