# SPDX-License-Identifier: Apache-2.0
"""The class `contained`: what its handler needs is there, and each thing that it must not do is done under `compat`."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest

from supervisor.extensions.commands import uid_of
from tests.fabric.systemd_lab import SystemdLab
from tests.fabric.waiting import until
from tests.jail.test_handler_commands import BASE, FILES, HANDLER, LIB, LOG, LOGS, ORDERS, OTHER, Machine, made

pytestmark = [pytest.mark.root, pytest.mark.timeout(90)]

OWN = "A" * 40
LISTENS = """import socket
listener = socket.create_server(("127.0.0.1", 8097))
print("listens", flush=True)
while True: listener.accept()
"""
PYTHON = "python3 -c 'import ctypes, os, socket; {}'"
# By what comes of it: a line of sh that succeeds, or does not.
FORBIDDEN = {
    "root": "[ $(id -u) = 0 ]",
    "secret files": "cat /etc/shadow",
    "our state": "ls /var/lib/agent-supervisor/secret || ls /proc/1/root/var/lib/agent-supervisor/secret",
    "another handler": f"cat {LIB}/{OTHER}-1.0/config/0.settings || ls /proc/1/root{LIB}/{OTHER}-1.0",
    "what the agent keeps": f"ls /proc/1/root{LIB}/CustomData",
    "its order": f'[ -n "$(ls -A /proc/1/root{ORDERS})" ]',
    "changes of the machine": "touch /etc/changed && rm /etc/changed",
    "mounts": "mount -t tmpfs x /mnt && umount /mnt",
    "a namespace of its own": "unshare --user true || unshare --mount true",
    "devices": "mknod /dev/shm/null c 1 3 && rm /dev/shm/null",
    "raw sockets": PYTHON.format("socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)"),
    "packet sockets": PYTHON.format("socket.socket(socket.AF_PACKET, socket.SOCK_RAW)"),
    "netlink": PYTHON.format("socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)"),
    "messages of the kernel": "dmesg",
    "processes of others": "kill -0 1",
    "systemd": "systemctl reset-failed",
    "its own program": f"sh -c 'mv {BASE}/bin/own {BASE}/bin/x && mv {BASE}/bin/x {BASE}/bin/own'",
    "system calls out of use": PYTHON.format("assert ctypes.CDLL(None).personality(0x0040000) >= 0"),
    "a ring of requests": PYTHON.format(
        "assert ctypes.CDLL(None).syscall(425, 1, ctypes.create_string_buffer(120)) >= 0"
    ),
    "another account": PYTHON.format("os.setuid(4321)"),
}
NEEDED = {
    "its program": "bin/own",
    "its key": f"[ \"$(cat {LIB}/{OWN}.prv)\" = 'the key of {OWN}' ]",
    "its settings": f"cat {BASE}/config/0.settings",
    "its status": f"echo x >{BASE}/status/0.status",
    "files of its own": f"mkdir -p {BASE}/made/by && echo x >{BASE}/mrseq",
    "its log": f"echo x >{LOGS}/{HANDLER}/own.log",
    "a folder for what passes": "echo x >/tmp/x",
    "a network": PYTHON.format('socket.create_server(("127.0.0.1", 0))'),
}


@contextmanager
def machine_with(cgroup: Literal["host", "v2"]) -> Iterator[Machine]:
    with SystemdLab({**FILES, f"{BASE}/config/0.settings": b"own\n"}, cgroup=cgroup) as lab:
        lab.output("mkdir", f"{BASE}/status")
        lab.output("chmod", "700", f"{BASE}/config", f"{BASE}/status", LIB)
        with made(lab) as machine:
            yield machine


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with machine_with("host") as machine:
        yield machine


def done(machine: Machine, lines: dict[str, str], handler_class: str) -> set[str]:
    """Which of them succeeded."""
    script = "\n".join(f"({line}) >/dev/null 2>&1 && echo '{name}'" for name, line in lines.items())
    result = machine.run(f"{script}\ntrue", handler_class=handler_class, thumbprint=OWN)
    assert result["exit_code"] == 0, result["output"]
    return set(result["output"].partition("[stdout]\n")[2].partition("\n\n[stderr]")[0].splitlines())


def test_what_it_must_not_do_it_can_not_and_under_compat_it_could(machine: Machine) -> None:
    assert done(machine, FORBIDDEN, "contained") == set()
    assert done(machine, FORBIDDEN, "compat") == set(FORBIDDEN)


def test_what_a_handler_needs_is_there_and_stays_ours_to_remove(machine: Machine) -> None:
    assert done(machine, NEEDED, "contained") == set(NEEDED)
    shown = machine.run("cat /proc/self/status; id -u", handler_class="contained")["output"]
    status = dict(line.split(":\t", 1) for line in shown.splitlines() if ":\t" in line)
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {str(uid_of(HANDLER))}
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    # Root without a capability: who reads its status, and who removes its folder.
    bare = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
    machine.lab.output(*bare, "cat", f"{BASE}/status/0.status")
    machine.lab.output(*bare, "rm", f"{BASE}/status/0.status", f"{BASE}/mrseq")
    assert machine.lab.read(f"{LIB}/{OTHER}-1.0/config/0.settings") == b"of another\n"


def test_once_its_time_is_over_it_is_ended_as_any_other(machine: Machine) -> None:
    hides = "setsid sh -c 'setsid sleep 4371 & sleep 4371' & sleep 4371"
    result = machine.run(hides, handler_class="contained", timeout_s=1)
    assert result["timed_out"]
    assert not result["output"].endswith("could not be ended")
    assert machine.lives("sleep", "4371") == []
    assert "sleep 4371\n" in machine.told(LOG).partition("what hung:")[2]


# Whoever tries these has a listener on the other side; each is a line of its own when it gets through.
LISTENED = """import select, socket
def bound(family, kind, host, port):
    made = socket.socket(family, kind)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6: made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    made.bind((host, port))
    if kind == socket.SOCK_STREAM: made.listen()
    return made
hosts = ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::"))
tcp = [bound(family, socket.SOCK_STREAM, host, port) for family, host in hosts for port in (8098, 8099)]
udp = [bound(family, socket.SOCK_DGRAM, host, port) for family, host in hosts for port in (53, 8098)]
print("listens", flush=True)
while True:
    for ready in select.select(tcp + udp, (), ())[0]:
        if ready in tcp: ready.accept()[0].sendall(b"x")
        else: ready.sendto(b"x", ready.recvfrom(9)[1])
"""
DROP_IN = "/etc/systemd/system/agent-supervisor-handler-.service.d"
TRIES = f"{BASE}/tries.py"
ATTEMPTS = """import socket
four, six = socket.AF_INET, socket.AF_INET6
stream, datagram = socket.SOCK_STREAM, socket.SOCK_DGRAM
def connected(family, host, port, kind=stream, protocol=0):
    with socket.socket(family, kind, protocol) as own:
        own.settimeout(2)
        own.connect((host, port))
        if kind == datagram: own.send(b"y")
        return own.recv(1)
def sent(family, host, port):
    with socket.socket(family, datagram) as own:
        own.settimeout(2)
        own.sendto(b"y", (host, port))
        return own.recv(1)
def fast(host, port):
    with socket.socket(four, stream) as own:
        own.settimeout(2)
        own.sendto(b"y", 0x20000000, (host, port))
        return own.recv(1)
def echoed():
    with socket.socket(four, datagram, 1) as own:
        own.settimeout(2)
        own.sendto(b"\\x08" + bytes(7), ("127.0.0.1", 0))
        return own.recv(1)
def heard():
    with socket.create_server(("127.0.0.1", 0)) as own, socket.socket() as other:
        own.settimeout(2)
        other.settimeout(2)
        other.connect(own.getsockname())
        return b"x"
for name, attempt in {
    "TCP": lambda: connected(four, "127.0.0.1", 8098),
    "TCP as IPv6": lambda: connected(six, "::ffff:127.0.0.1", 8098),
    "TCP by IPv6": lambda: connected(six, "::1", 8098),
    "DNS": lambda: sent(four, "127.0.0.1", 53),
    "DNS, connected": lambda: connected(four, "127.0.0.1", 53, datagram),
    "DNS by IPv6": lambda: sent(six, "::1", 53),
    "within a prefix": lambda: connected(four, "127.9.255.1", 8099),
    "another port": lambda: connected(four, "127.0.0.1", 8099),
    "another port as IPv6": lambda: connected(six, "::ffff:127.0.0.1", 8099),
    "another port of IPv6": lambda: connected(six, "::1", 8099),
    "another address": lambda: connected(four, "127.0.0.2", 8098),
    "beside the prefix": lambda: connected(four, "127.10.0.1", 8099),
    "UDP": lambda: sent(four, "127.0.0.1", 8098),
    "UDP, connected": lambda: connected(four, "127.0.0.1", 8098, datagram),
    "UDP as IPv6": lambda: sent(six, "::ffff:127.0.0.1", 8098),
    "UDP by IPv6": lambda: sent(six, "::1", 8098),
    "DNS by TCP": lambda: connected(four, "127.0.0.2", 8099),
    "several ways at once": lambda: connected(four, "127.0.0.1", 8099, stream, 262),
    "data with the first packet": lambda: fast("127.0.0.1", 8099),
    "echo": echoed,
    "a listener of its own": heard,
}.items():
    try:
        if attempt(): print(name)
    except OSError:
        pass
"""
LISTED = [
    {"to": "127.0.0.1", "tcp": [8098], "udp": [53]},
    {"to": "::1", "tcp": [8098], "udp": [53]},
    {"to": "127.9.0.0/16", "tcp": [8099]},
]
REACHED = {"TCP", "TCP as IPv6", "TCP by IPv6", "DNS", "DNS, connected", "DNS by IPv6", "within a prefix"}


def reached(machine: Machine, **more: Any) -> set[str]:
    """What a contained command gets through of the attempts."""
    result = machine.run(f"python3 {TRIES}", handler_class="contained", **more)
    assert result["exit_code"] == 0, result["output"]
    return set(result["output"].partition("[stdout]\n")[2].partition("\n\n[stderr]")[0].splitlines())


def judge_outbound(machine: Machine) -> None:
    machine.lab.write(TRIES, ATTEMPTS.encode())
    listener = machine.lab.popen([sys.executable, "-c", LISTENED], stdout=subprocess.PIPE)
    assert listener.stdout is not None
    assert listener.stdout.readline() == b"listens\n"
    listener.stdout.close()
    everything = set(re.findall(r'^    "(.*)": ', ATTEMPTS, re.MULTILINE))
    assert reached(machine, outbound=LISTED) == REACHED
    assert reached(machine, outbound=[]) == set()
    # The mutant: without the list all of it is to be had, but for what this machine has not.
    assert everything - reached(machine) <= {"several ways at once", "data with the first packet", "echo"}


def test_of_the_network_it_reaches_what_is_listed_and_nothing_else(machine: Machine) -> None:
    judge_outbound(machine)
    # What it leaves running has no more.
    own, told = f"{BASE}/status/reached", f"{BASE}/status/told"
    left = f"(setsid sh -c 'sleep 0.3; python3 {TRIES} >{own}; mv {own} {told}' >/dev/null 2>&1 &)"
    assert machine.run(left, handler_class="contained", outbound=LISTED)["exit_code"] == 0
    until("what it has left running told", machine.lab.path(told).exists)
    assert set(machine.told(told).splitlines()) == REACHED


def test_the_same_where_there_is_cgroup2_alone_and_without_it_nothing_is_run() -> None:
    with machine_with("v2") as machine:
        judge_outbound(machine)
        # As on a kernel that has no such programs.
        machine.lab.output("mkdir", DROP_IN)
        machine.lab.write(f"{DROP_IN}/none.conf", b"[Service]\nCapabilityBoundingSet=~CAP_BPF\n")
        machine.lab.output("systemctl", "daemon-reload")
        result = machine.run(f"touch {BASE}/status/run", handler_class="contained", outbound=LISTED)
        assert (result["exit_code"], result["lost"]) == (127, False)
        assert "could not be run: its outbound list can't be enforced on this machine: " in result["output"]
        assert not machine.lab.path(f"{BASE}/status/run").exists()


def test_the_network_can_be_taken_from_it_as_well(machine: Machine) -> None:
    listener = machine.lab.popen([sys.executable, "-c", LISTENS], stdout=subprocess.PIPE)
    assert listener.stdout is not None
    assert listener.stdout.readline() == b"listens\n"
    connects = PYTHON.format('socket.create_connection(("127.0.0.1", 8097), 5)')
    codes = [
        machine.run(connects, handler_class="contained", network=network)["exit_code"] for network in (True, False)
    ]
    assert codes == [0, 1]
    listener.stdout.close()
