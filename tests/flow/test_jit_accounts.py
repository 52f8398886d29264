# SPDX-License-Identifier: Apache-2.0
"""Accounts that the platform asks for and takes back, in one VM's life: made whole, ended in time, no other touched."""

import json
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from tests.fabric.lab import PlacedFile
from tests.fabric.scene import AGENT, kill_process
from tests.fabric.vm import QUICK, Vm, booted
from tests.fabric.waiting import until

pytestmark = pytest.mark.root

PASSWORD = "Jit-Passw0rd-ünïcode"
CONFIG = QUICK + b"Extensions.GoalStatePeriod=1\n"
MARKER = "/var/lib/waagent/provisioned"
FILES = ("passwd", "shadow", "group", "gshadow", "subuid", "subgid")
ORDINARY = "alice:x:1200:100::/home/alice:/bin/bash"
SUDOERS = b"alice ALL=(ALL) NOPASSWD: ALL\n"
# An agent before this one has made it; what has no such comment is nobody's business.
EARLIER = "earlier:x:1300:100:JIT_Account:/home/earlier:/bin/bash"


def image() -> dict[str, bytes | PlacedFile]:
    lines = f"{ORDINARY}\n{EARLIER}\nfriend:x:1400:100:JIT_Account,,,:/home/friend:/bin/bash\n"
    shadow = "".join(f"{name}:!:1::::::\n" for name in ("alice", "earlier", "friend"))
    return {
        MARKER: b"",
        "/etc/passwd": PlacedFile(Path("/etc/passwd").read_bytes() + lines.encode()),
        "/etc/shadow": PlacedFile(Path("/etc/shadow").read_bytes() + shadow.encode(), 0o640),
        "/etc/sudoers.d/waagent": PlacedFile(SUDOERS, 0o440),
    }


@pytest.fixture(scope="module")
def vm() -> Iterator[Vm]:
    with booted(config=CONFIG, image=image()) as vm:
        vm.lab.output("install", "-d", "-o", "1300", "/home/earlier")
        vm.boot(None)
        until("a goal state in force", lambda: "is in force" in vm.scene.log())
        yield vm


def user(name: str, seconds: float = 7200, **more: str) -> dict[str, str]:
    return {"name": name, "password": PASSWORD, "expires": formatdate(time.time() + seconds, usegmt=True)} | more


def publish(vm: Vm, *users: dict[str, str]) -> None:
    """A goal state with these accounts, and wait until it is in force."""
    told = vm.scene.publish(users=list(users))
    until("that goal state", lambda: f"incarnation_{told['incarnation']}, " in vm.scene.log())


def fields(vm: Vm, file: str, name: str) -> list[str]:
    """The account's line; empty if there is none."""
    lines = [line for line in vm.lab.read(f"/etc/{file}").decode().splitlines() if line.startswith(f"{name}:")]
    return lines[0].split(":") if lines else []


def sudoers(vm: Vm) -> set[str]:
    return {*vm.lab.read("/etc/sudoers.d/waagent").decode().splitlines()}


def database(vm: Vm) -> dict[str, bytes]:
    return {name: vm.lab.read(f"/etc/{name}") for name in FILES}


def is_gone(vm: Vm, name: str) -> bool:
    return not any(fields(vm, file, name) for file in FILES) and not vm.lab.path(f"/home/{name}").exists()


def is_whole(vm: Vm, name: str) -> bool:
    return f"{name} ALL=(ALL) ALL" in sudoers(vm)


def test_accounts_come_and_go_with_goal_states(vm: Vm) -> None:
    until("the earlier agent's account to be gone", lambda: is_gone(vm, "earlier"))
    before = database(vm)
    publish(vm, user("visitor"), user("second"))
    until("both accounts", lambda: is_whole(vm, "visitor") and is_whole(vm, "second"))
    told = json.loads(vm.lab.output(str(AGENT), "goal-state", "--json"))["accounts"]
    assert sorted((each["name"], each["stage"]) for each in told) == [("second", "made"), ("visitor", "made")]
    assert "account visitor: made, until 20" in vm.lab.output(str(AGENT), "goal-state")
    passwd, shadow = fields(vm, "passwd", "visitor"), fields(vm, "shadow", "visitor")
    assert (passwd[4], passwd[5]) == ("JIT_Account", "/home/visitor")
    day = int(time.time() + 7200) // 86400 + 1
    assert int(shadow[7]) == day
    # The library's own verdict, as a login has it.
    script = "import crypt, sys; print(crypt.crypt(sys.argv[1], sys.argv[2]) == sys.argv[2])"
    assert vm.lab.output("python3", "-W", "ignore", "-c", script, PASSWORD, shadow[1]) == "True\n"
    home = vm.lab.path("/home/visitor")
    assert (home.stat().st_uid, (home / ".bashrc").stat().st_uid) == (int(passwd[2]), int(passwd[2]))
    assert vm.lab.run(["/usr/sbin/visudo", "-c"]).returncode == 0
    # Another end is followed; whoever is wanted no more goes, with what runs as it.
    program = f"setpriv --reuid {fields(vm, 'passwd', 'second')[2]} --clear-groups sleep 1000 >/dev/null 2>&1 & echo $!"
    pid = int(vm.lab.output("sh", "-c", program))
    publish(vm, user("visitor", 7200 + 86400))
    until("the second one's end", lambda: is_gone(vm, "second") and not is_whole(vm, "second"))
    assert int(fields(vm, "shadow", "visitor")[7]) == day + 1
    assert not vm.lab.path(f"/proc/{pid}").exists()
    # No such document any more: all of them go, once.
    vm.scene.publish(users=None)
    until("nobody", lambda: is_gone(vm, "visitor"))
    assert database(vm) == before
    until("no line in sudoers but alice's", lambda: vm.lab.read("/etc/sudoers.d/waagent") == SUDOERS)
    assert sorted(path.name for path in vm.lab.path("/home").iterdir() if path.name.startswith(".")) == []


def test_nobody_elses_account_is_touched_and_each_refusal_has_its_reason(vm: Vm) -> None:
    before = database(vm)
    vm.lab.output("groupadd", "taken")
    with_group = database(vm)
    publish(
        vm,
        user("alice"),
        user("taken"),
        user("root"),
        user("-r"),
        user("past", -60),
        user("odd", expires="some day"),
        user("sealed", sealed="QUJD"),
        user("nothing", password=""),
        user("good"),
        user("good", 60),
    )
    until("the good one", lambda: is_whole(vm, "good"))
    log = vm.scene.log()
    for words in (
        "JIT account 'alice' is not made: account alice has another comment than JIT_Account",
        "JIT account 'taken' is not made: a group taken exists already",
        "JIT account 'root' is not made: no account may have that name",
        "JIT account '-r' is not made: no account may have that name",
        "JIT account 'past' is not made: its time is over",
        "JIT account 'odd' is not made: its Expiration is unusable: ",
        "JIT account 'sealed' is not made: ",
        "JIT account 'nothing' is not made: envelope",
        "JIT account 'good' is not made: it is named twice",
    ):
        assert words in log, words
    vm.scene.publish(users=[])
    until("the good one's end", lambda: is_gone(vm, "good"))
    assert database(vm) == with_group
    assert vm.lab.read("/etc/sudoers.d/waagent") == SUDOERS
    vm.lab.output("groupdel", "taken")
    assert database(vm) == before


def test_an_account_ends_in_time_and_after_a_kill(vm: Vm) -> None:
    """Without any goal state: by the clock; and by the next process, if the one that would have done it is killed."""
    publish(vm, user("short", 4), user("long", 3600))
    until("both accounts", lambda: is_whole(vm, "short") and is_whole(vm, "long"))
    until("its end in time", lambda: is_gone(vm, "short"))
    assert not is_gone(vm, "long")
    # Soon, and yet after the next supervisor is there: what is over at first sight is looked at twice.
    publish(vm, user("quick", 12), user("long", 3600))
    until("the quick one", lambda: is_whole(vm, "quick"))
    kill_process(vm.residents()[1])
    until("its end by the next supervisor", lambda: is_gone(vm, "quick"), 20)
    assert not is_gone(vm, "long")
    # Killed while one is made: what is there goes, and it is made anew, for it is wanted still.
    publish(vm, user("half"), user("long", 3600))
    until("its first line", lambda: fields(vm, "passwd", "half"))
    kill_process(vm.residents()[1])
    until("the whole account", lambda: is_whole(vm, "half") and "password of half set" in vm.scene.log(), 20)
    until("its hash", lambda: fields(vm, "shadow", "half")[1].startswith("$6$"))


def test_what_fails_half_way_is_taken_back_and_ten_at_once_are_made(vm: Vm) -> None:
    vm.scene.publish(users=[])
    until("nobody", lambda: is_gone(vm, "long") and is_gone(vm, "half"))
    before = database(vm)
    broken = vm.lab.path("/etc/sudoers.d/waagent")
    broken.write_bytes(SUDOERS + b"nonsense = \n")
    publish(vm, user("half"))
    until("the refusal", lambda: "JIT account 'half' is not made: visudo refuses" in vm.scene.log())
    until("nothing of it", lambda: is_gone(vm, "half"))
    assert database(vm) == before
    broken.write_bytes(SUDOERS)
    ten = [user(f"user{number}") for number in range(10)]
    publish(vm, *ten)
    until("ten accounts", lambda: all(is_whole(vm, each["name"]) for each in ten), 60)
    assert len({fields(vm, "shadow", each["name"])[1] for each in ten}) == 10  # each with a salt of its own
    lines = [json.loads(line) for line in vm.lab.read("/var/lib/agent-supervisor/audit.log").splitlines()]
    told = {(line.get("request"), line.get("decision")) for line in lines if line["event"] == "commit"}
    assert {("RemoveJitAccount", "done"), ("CommitSudo", "failed"), ("WithdrawSudo", "done")} <= told
    vm.scene.stop_agent(vm.agent)
    assert vm.told(PASSWORD) == []
