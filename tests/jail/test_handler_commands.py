# SPDX-License-Identifier: Apache-2.0
"""Vendors' commands under systemd: units by themselves, full root but for what policy takes, started once whoever of us
is killed, ended with all that they left when their time is over."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.fabric.lab import PlacedFile
from tests.fabric.systemd_lab import SystemdLab
from tests.fabric.waiting import until
from tests.jail.mutants import Mutation
from tests.jail.rigged import HOME, Rig, place_policy, policy_sources

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

LIB, LOGS, ORDERS = "/var/lib/waagent", "/var/log/azure", "/run/agent-supervisor/handlers"
HANDLER, VERSION, OTHER = "Vendor.One", "1.2", "Vendor.Two"
BASE = f"{LIB}/{HANDLER}-{VERSION}"
LOG = f"{LOGS}/{HANDLER}/CommandExecution.log"
SLICE = "azure-vmextensions-Vendor.One.slice"
NUMBERS = itertools.count(1)
# systemd leaves alone what lies in there, as in the agent's own unit.
LAUNCHER = ("systemd-run", "--quiet", "--scope", "--property=Delegate=yes", "--")
FILES: dict[str, bytes | PlacedFile] = {
    f"{BASE}/bin/own": PlacedFile(b"#!/bin/sh\necho own\n", 0o755),
    f"{LIB}/{OTHER}-1.0/config/0.settings": b"of another\n",
    f"{LIB}/custom-script/kept": b"a vendor's\n",
    f"{LIB}/CustomData": b"secrets\n",
    "/var/lib/agent-supervisor/secret": b"ours\n",
}
POLICY = (b'"tests.jail.rig_supervisor"', b'"tests.jail.rig_handlers"')


class Machine:
    """A lab under systemd with a rig that has commands run in it."""

    def __init__(self, lab: SystemdLab, policy: str) -> None:
        self.lab, self._policy = lab, policy
        self.rig = self.fresh_rig()

    def fresh_rig(self, *mutations: Mutation) -> Rig:
        return Rig(self.lab, self._policy, mutations, phase="steady", launcher=LAUNCHER).open()

    def order(self, line: str, **more: Any) -> dict[str, Any]:
        plain = {
            "number": next(NUMBERS),
            "handler": HANDLER,
            "version": VERSION,
            "extension": "",
            "sequence_number": 0,
            "verb": "enable",
            "line": line,
            "timeout_s": 30,
            "environment": [["ConfigSequenceNumber", "0"]],
            "base": BASE,
            "folders": [f"{HANDLER}-{VERSION}"],
        }
        return plain | more

    def begin(self, line: str, **more: Any) -> tuple[dict[str, Any], int]:
        """An order under way, and the number of its answer."""
        order = self.order(line, **more)
        return order, self.rig.tell("run", order=order)

    def run(self, line: str, **more: Any) -> dict[str, Any]:
        """What came of one order; its number is in it."""
        order, answer = self.begin(line, **more)
        answered = self.rig.answer(answer)
        assert "result" in answered, (answered, self.rig.log())
        result: dict[str, Any] = answered["result"]
        return result | {"number": order["number"]}

    def told(self, path: str) -> str:
        return self.lab.read(path).decode()

    def cgroup(self, number: int) -> str:
        return self.lab.show(unit(number), "ControlGroup")["ControlGroup"]

    def lives(self, *words: str) -> list[int]:
        return [process.pid for process in self.lab.processes() if process.argv == words]


def unit(number: int) -> str:
    return f"agent-supervisor-handler-{number}.service"


@contextmanager
def made(lab: SystemdLab) -> Iterator[Machine]:
    # systemd does so on a machine; in what it takes for a container it leaves that to whoever made it.
    lab.output("mount", "--make-rshared", "/")
    lab.output("mkdir", "-p", HOME)
    sources = policy_sources()
    own = "profiles/supervisor.toml"
    sources[own] = sources[own].replace(*POLICY)
    machine = Machine(lab, place_policy(lab, "handlers", sources))
    try:
        yield machine
    finally:
        machine.rig.close()


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with SystemdLab(FILES) as lab, made(lab) as machine:
        yield machine


TELLING = """cat /proc/self/status >status; umask >umask; env | cut -d= -f1 | sort >names; ls -l /proc/self/fd >open;
cat /proc/self/cgroup >groups; cat /proc/self/oom_score_adj >spared;
ps -o sid= -p $$ >session; echo $$ >pid; sh -c 'kill -PIPE $$; echo lives' >signals;
echo said; echo complained >&2; exit 3"""


def test_it_runs_as_root_has_it_and_how_it_ended_is_told(machine: Machine) -> None:
    result = machine.run(TELLING, without=["sys_ptrace", "sys_boot"])
    assert (result["code"], result["exit_code"], result["timed_out"], result["lost"]) == (1009, 3, False, False)
    assert result["output"] == "[stdout]\nsaid\n\n\n[stderr]\ncomplained\n"
    status = dict(line.split(":\t", 1) for line in machine.told(f"{BASE}/status").splitlines() if ":\t" in line)
    assert status["Uid"] == status["Gid"] == "0\t0\t0\t0"
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("0", "0")
    init = machine.told("/proc/1/status").split("CapBnd:\t")[1].split()[0]
    taken = 1 << 19 | 1 << 22
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == int(init, 16) & ~taken
    assert machine.told(f"{BASE}/umask") == "0022\n"
    assert machine.told(f"{BASE}/spared") == "0\n"
    assert machine.told(f"{BASE}/names").split() == ["ConfigSequenceNumber", "HOME", "LANG", "PATH", "PWD"]
    # Input is the null device; outputs are files without a name; 3 is the listing's own.
    opened = [line.split(" -> ")[1] for line in machine.told(f"{BASE}/open").splitlines() if " -> " in line]
    assert opened[0] == "/dev/null"
    assert [name.startswith("/proc/") for name in opened[3:]] == [True]
    assert machine.told(f"{BASE}/session").strip() == machine.told(f"{BASE}/pid").strip()
    assert machine.told(f"{BASE}/signals") == ""
    assert f"/azure.slice/azure-vmextensions.slice/{SLICE}/{unit(result['number'])}" in machine.told(f"{BASE}/groups")
    assert f"enable of version {VERSION}: cat" in machine.told(LOG)
    assert "exit code 3" in machine.told(LOG)


LOOKING = f"""bin/own
cat {LIB}/*.prv {LIB}/*.crt
ls -A {LIB}/{OTHER}-1.0 {ORDERS} /var/lib/agent-supervisor
cat {LIB}/CustomData {LIB}/custom-script/kept
stat -c %a {LIB}/{"A" * 40}.prv
ls -A /proc/1/root/var/lib/agent-supervisor /proc/$PPID/root/var/lib/agent-supervisor
mkdir -p {LIB}/store /mnt/d; mount -t tmpfs seen /mnt/d; mount -t tmpfs inner {LIB}/store
"""


def test_what_it_sees_and_what_of_it_the_machine_sees(machine: Machine) -> None:
    lab, own, another = machine.lab, "A" * 40, "B" * 40
    lab.write(f"{LIB}/{another}.prv", b"a key that somebody left there\n")
    result = machine.run(LOOKING, thumbprint=own, without=["sys_ptrace"])
    said = result["output"].partition("[stderr]")[0].splitlines()[1:]
    assert [line for line in said if line] == [
        "own",
        f"the key of {own}",
        f"the certificate of {own}",
        "/var/lib/agent-supervisor:",
        f"{LIB}/{OTHER}-1.0:",
        "a vendor's",
        "400",
    ]
    # By the root of a process that can do more; that is what the one capability is for.
    assert "secret" not in result["output"]
    assert "secret\n" in machine.run("ls -A /proc/1/root/var/lib/agent-supervisor")["output"]
    assert lab.output("findmnt", "-no", "SOURCE", "/mnt/d").strip() == "seen"
    assert lab.output("findmnt", "-no", "SOURCE", f"{LIB}/store").strip() == "inner"
    lab.output("umount", "/mnt/d", f"{LIB}/store")
    # Neither has a warden that may make no view, though its command may not mount.
    taken = machine.run(f"grep CapBnd /proc/self/status; {LOOKING}", thumbprint=own, without=["sys_admin", "setpcap"])
    bounding = int(taken["output"].split("CapBnd:\t")[1].split()[0], 16)
    assert bounding & (1 << 21 | 1 << 8) == 0
    assert f"the key of {own}\n" in taken["output"]
    assert not [each for each in ("secrets", "of another", "0.settings") if each in taken["output"]]
    assert lab.run(["findmnt", "/mnt/d"]).returncode != 0
    # The covers are its own, and so are the keys.
    assert lab.read(f"{LIB}/{OTHER}-1.0/config/0.settings") == b"of another\n"
    assert lab.read(f"{LIB}/{own}.prv") == b""
    assert lab.output("findmnt", "-no", "TARGET", "--list").count(LIB) == 0
    # It has left nothing behind: nobody has to be asked for that.
    with broken(lab, "systemctl"):
        machine.rig.ask("forget", number=result["number"])
    assert not lab.path(f"{ORDERS}/{result['number']}").exists()
    until("no unit", lambda: lab.show(unit(result["number"]), "LoadState")["LoadState"] == "not-found")


def test_once_its_time_is_over_all_of_it_is_ended_and_where_it_hung_is_told(machine: Machine) -> None:
    hidden = "setsid sh -c 'setsid sleep 4321 & sleep 4322' >/dev/null 2>&1 &"
    result = machine.run(f"trap '' TERM; {hidden} echo begun; sleep 4323", timeout_s=1)
    assert (result["code"], result["exit_code"], result["timed_out"]) == (1011, None, True)
    assert result["output"].startswith("[stdout]\nbegun\n")
    assert [machine.lives("sleep", each) for each in ("4321", "4322", "4323")] == [[], [], []]
    log = machine.told(LOG)
    assert "killed: it still ran after 1 s" in log
    assert "sleep 4321\n" in log.partition("what hung:")[2]
    assert "nanosleep" in log.partition("what hung:")[2]


def test_so_it_is_where_all_controllers_are_in_one_hierarchy() -> None:
    with SystemdLab(FILES, cgroup="v2") as lab, made(lab) as machine:
        left = machine.run("setsid sleep 4391 >/dev/null 2>&1 &")
        assert machine.run("setsid sleep 4392 & sleep 4393", timeout_s=1)["timed_out"]
        assert [bool(machine.lives("sleep", each)) for each in ("4391", "4392", "4393")] == [True, False, False]
        machine.rig.ask("forget", number=left["number"])
        assert lab.show(unit(left["number"]), "LoadState")["LoadState"] == "loaded"


def test_what_it_leaves_running_lives_on_in_its_slice(machine: Machine) -> None:
    result = machine.run("setsid sleep 4331 >/dev/null 2>&1 & echo left")
    assert result["code"] == 0
    assert result["seconds"] < 5
    (pid,) = machine.lives("sleep", "4331")
    assert f"/{SLICE}/{unit(result['number'])}" in machine.told(f"/proc/{pid}/cgroup")
    machine.rig.ask("forget", number=result["number"])
    # Its folder and keys are gone; what systemd accounts it to is not.
    assert machine.lab.show(unit(result["number"]), "LoadState")["LoadState"] == "loaded"
    assert machine.lives("sleep", "4331") == [pid]
    # Whoever asks once more is not told that it was never run.
    order = machine.order("setsid sleep 4331 >/dev/null 2>&1 & echo left") | {"number": result["number"]}
    again = machine.rig.ask("run", order=order)["result"]
    assert (again["lost"], "its outcome is lost: " in again["output"]) == (True, True)
    assert "what it has started lives on there, and is left alone" in again["output"]
    assert machine.lives("sleep", "4331") == [pid]
    machine.rig.ask("end", number=result["number"])
    until("its end", lambda: not machine.lives("sleep", "4331"))


def test_a_flood_fills_no_disk_and_a_bomb_is_held(machine: Machine) -> None:
    room = "stat -L -c %b /proc/self/fd/3"
    flood = f"exec 3>&1; yes | head -c 200000000; sleep 1; {room} >room; stat -L -c %s /proc/self/fd/3 >size"
    result = machine.run(flood, timeout_s=60)
    assert result["code"] == 0
    assert len(result["output"]) <= 3200 + len("\n")
    assert int(machine.told(f"{BASE}/size")) == 200_000_000
    assert int(machine.told(f"{BASE}/room")) * 512 < 1_000_000
    # A shell that can not fork any more would end, and leave a bomb that the next command of its slice unleashes.
    bomb = "bomb() { bomb | bomb & }; bomb; exec sleep 4341"
    held = machine.run(bomb, timeout_s=2, limits={"tasks": 60, "memory_mib": 200, "cpu_percent": 50})
    assert held["timed_out"]
    assert not held["output"].endswith("could not be ended")
    shown = machine.lab.show(SLICE, "TasksMax", "MemoryMax", "CPUQuotaPerSecUSec")
    assert shown == {"TasksMax": "60", "MemoryMax": str(200 << 20), "CPUQuotaPerSecUSec": "500ms"}
    assert not machine.lives("sleep", "4341")
    # A rule that goes takes its limits along.
    machine.run("true")
    assert set(machine.lab.show(SLICE, "TasksMax", "MemoryMax", "CPUQuotaPerSecUSec").values()) == {"infinity"}


def test_who_eats_more_memory_than_there_is_ends_alone_and_that_is_told(machine: Machine) -> None:
    eats = "setsid sleep 4361 >/dev/null 2>&1 & python3 -c 'x = bytearray(300 << 20)'; echo ended $?"
    result = machine.run(eats, limits={"memory_mib": 100})
    assert (result["lost"], result["exit_code"]) == (False, 0)
    assert "\nended 137\n" in result["output"]
    assert len(machine.lives("sleep", "4361")) == 1
    machine.rig.ask("end", number=result["number"])


def test_an_order_runs_once_and_another_one_of_its_number_is_told_the_same(machine: Machine) -> None:
    order, answer = machine.begin("echo x >>once; setsid sleep 4371 >/dev/null 2>&1 & exit 2")
    answered = machine.rig.answer(answer)
    assert "result" in answered, (answered, machine.rig.log())
    first = answered["result"]
    assert machine.rig.ask("run", order=order)["result"] == first
    folder = f"{ORDERS}/{order['number']}"
    machine.lab.path(f"{folder}/result").write_bytes(b"\x81\xa9exit_code\xa10")
    spoilt = machine.rig.ask("run", order=order)["result"]
    assert (spoilt["lost"], "holds no result" in spoilt["output"]) == (True, True)
    machine.lab.path(f"{folder}/result").unlink()
    lost = machine.rig.ask("run", order=order)["result"]
    assert (lost["lost"], lost["code"]) == (True, 1009)
    assert "its outcome is lost" in lost["output"]
    # Nobody gets it to run anew, systemd neither.
    assert machine.lab.systemctl("restart", unit(order["number"])).returncode == 0
    until("the refusal", lambda: "nothing is run" in machine.lab.journal(unit(order["number"])))
    assert machine.told(f"{BASE}/once") == "x\n"


@contextmanager
def broken(lab: SystemdLab, *names: str) -> Iterator[None]:
    """Tools of systemd's that it gives no answer."""
    for name in names:
        lab.output("mv", f"/usr/bin/{name}", f"/usr/bin/{name}.away")
        lab.output("sh", "-c", f"printf '#!/bin/sh\\nexit 1\\n' >/usr/bin/{name}; chmod 755 /usr/bin/{name}")
    try:
        yield
    finally:
        for name in names:
            lab.output("mv", f"/usr/bin/{name}.away", f"/usr/bin/{name}")


def test_what_systemd_gives_no_answer_about_is_not_lost_but_asked_again(machine: Machine) -> None:
    order, answer = machine.begin("echo x >>asking; until [ -e go-asking ]; do sleep 0.05; done; exit 4")
    until("it runs", lambda: machine.lab.path(f"{BASE}/asking").exists())
    with broken(machine.lab, "systemctl"):
        assert "systemctl ended with status 1" in machine.rig.ask("run", order=order)["text"]
        assert "systemctl ended with status 1" in machine.rig.ask("find", order=order)["text"]
    found = machine.rig.tell("find", order=order)
    machine.lab.write(f"{BASE}/go-asking", b"")
    assert machine.rig.answer(found)["result"]["exit_code"] == machine.rig.answer(answer)["result"]["exit_code"] == 4
    assert machine.told(f"{BASE}/asking") == "x\n"


def test_a_start_that_is_refused_is_final_once_systemd_says_that_it_knows_of_none(machine: Machine) -> None:
    order = machine.order("echo x >>refused")
    assert machine.rig.ask("find", order=order)["result"] is None
    with broken(machine.lab, "systemd-run", "systemctl"):
        assert "systemctl ended with status 1" in machine.rig.ask("run", order=order)["text"]
    with broken(machine.lab, "systemd-run"):
        refused = machine.rig.ask("run", order=order)["result"]
        assert (refused["lost"], "it was not run: systemd-run ended" in refused["output"]) == (True, True)
    assert machine.rig.ask("find", order=order)["result"] is None
    assert not machine.lab.path(f"{BASE}/refused").exists()
    assert machine.rig.ask("run", order=order)["result"]["code"] == 0
    assert machine.told(f"{BASE}/refused") == "x\n"


def test_a_number_that_was_given_is_known_and_its_folder_is_no_other_orders(machine: Machine) -> None:
    order, answer = machine.begin("echo one; exit 3", number=5000)
    assert machine.rig.answer(answer)["result"]["exit_code"] == 3
    assert machine.rig.ask("find", order=order)["result"]["exit_code"] == 3
    other = order | {"line": "echo x >>other"}
    found = machine.rig.ask("find", order=other)
    assert (found["result"], found["highest"]) == (None, 5000)
    refused = machine.rig.ask("run", order=other)["result"]
    assert (refused["lost"], "its number, 5000, is that of another command" in refused["output"]) == (True, True)
    machine.rig.ask("forget", number=5000)
    machine.run("true")
    found = machine.rig.ask("find", order=other)
    assert (found["result"], found["highest"]) == (None, 5000)
    assert not machine.lab.path(f"{BASE}/other").exists()


@pytest.mark.parametrize("victim", ["supervisor", "spawner"])
def test_whoever_of_us_is_killed_it_runs_on_and_is_waited_for(machine: Machine, victim: str) -> None:
    order, _ = machine.begin(f"echo x >>{victim}; until [ -e go-{victim} ]; do sleep 0.05; done; exit 4")
    until("it runs", lambda: machine.lab.path(f"{BASE}/{victim}").exists())
    if victim == "supervisor":
        machine.lab.kill(machine.rig.supervisor)
        machine.rig.wait_for_next_supervisor()
    else:
        machine.lab.kill(machine.rig.spawner)
        machine.rig.close()
        machine.rig = machine.fresh_rig()
    again = machine.rig.tell("run", order=order)
    until("it is waited for", lambda: machine.rig.ask("running")["running"] == [order["number"]])
    machine.lab.write(f"{BASE}/go-{victim}", b"")
    assert machine.rig.answer(again)["result"]["exit_code"] == 4
    assert machine.told(f"{BASE}/{victim}") == "x\n"


def test_a_warden_that_is_killed_has_the_outcome_lost_and_said(machine: Machine) -> None:
    order, answer = machine.begin("echo x >>doomed; kill -9 $PPID; sleep 4351")
    result = machine.rig.answer(answer)["result"]
    assert (result["lost"], result["code"]) == (True, 1009)
    assert "its outcome is lost" in result["output"]
    assert machine.rig.ask("run", order=order)["result"] == result
    assert machine.told(f"{BASE}/doomed") == "x\n"
    machine.rig.ask("end", number=order["number"])


def test_no_link_of_a_vendors_has_us_write_elsewhere(machine: Machine) -> None:
    machine.lab.output(
        "sh", "-c", f"mv {LOGS}/{HANDLER} {LOGS}/kept; mkdir /srv/target; ln -s /srv/target {LOGS}/{HANDLER}"
    )
    try:
        result = machine.run("echo said")
        assert "[stdout]\nsaid" in result["output"]
        assert f"{LOGS}/{HANDLER}: " in result["output"]
        assert machine.lab.output("ls", "-A", "/srv/target") == ""
    finally:
        machine.lab.output("sh", "-c", f"rm {LOGS}/{HANDLER}; mv {LOGS}/kept {LOGS}/{HANDLER}")
    machine.lab.output("sh", "-c", f"echo root >/srv/target/file; ln -f /srv/target/file {LOG}")
    assert machine.run("true")["code"] == 0
    assert machine.told("/srv/target/file") == "root\n"
    machine.lab.output("rm", LOG)
