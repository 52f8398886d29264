# SPDX-License-Identifier: Apache-2.0
"""Owns the ground that rules are tried on: a lab, a host behind its bridge, a container behind it, one beside it.

Runs in the test. Every network is a namespace of the lab's own; the host's address exists in one of them alone.
"""

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

from ipc.codec import decode, encode
from ipc.messages import CommitFailed, Committed, EgressGuarded, GuardEgress, Message, OpenEgress, Rule
from policy.egress import CANARY, CANARY_PORT, iptables, nft
from tests.egress.responder import ADDRESS
from tests.fabric.lab import PROJECT, Lab, send_signal
from tests.jail.mutants import Mutation
from tests.jail.rigged import Rig, place_bait, place_policy, policy_sources

WIRE_UID = 61183
NOBODY = 65534
# Namespaces by the files that hold them; the bridge is the lab's uplink.
NETWORKS = f"""
set -e
mkdir -p /run/nets
for name in host routed bridged; do
    touch /run/nets/$name
    unshare --net=/run/nets/$name true
    nsenter --net=/run/nets/$name ip link set lo up
done
ip link set lo up
ip addr del {ADDRESS}/32 dev lo
ip link add br0 type bridge
for name in host bridged routed; do
    ip link add to-$name type veth peer name wire netns /run/nets/$name
    ip link set to-$name up
    nsenter --net=/run/nets/$name ip link set wire up
done
ip link set to-host master br0
ip link set to-bridged master br0
ip addr add 10.77.0.1/24 dev br0
ip link set br0 up
ip addr add 10.77.1.1/24 dev to-routed
ip route add {ADDRESS} via 10.77.0.2
at() {{ name=$1; shift; nsenter --net=/run/nets/$name ip "$@"; }}
at host addr add 10.77.0.2/24 dev wire
at host addr add {ADDRESS}/32 dev lo
at host route add default via 10.77.0.1
at bridged addr add 10.77.0.3/24 dev wire
at bridged route add {ADDRESS} via 10.77.0.2
at routed addr add 10.77.1.2/24 dev wire
at routed route add default via 10.77.1.1
"""


class Ground:
    """The lab with its networks, the host answering, and the rig, if one is open."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.rig: Rig | None = None
        done = lab.run(["sh", "-c", NETWORKS])
        assert done.returncode == 0, done.stderr
        self.set("ipv4/ip_forward", 1)
        if lab.path("/proc/sys/net/bridge").exists():
            # What is bridged is not to be shown to the rules of family ip.
            self.set("bridge/bridge-nf-call-iptables", 0)
        self._host = self.popen("tests.egress.responder", net="host")
        assert self._host.stdout is not None
        assert self._host.stdout.readline() == b"ready\n"
        place_bait(lab)

    @contextmanager
    def rigged(self, *mutations: Mutation, **policy: tuple[str, str]) -> Iterator[Rig]:
        """A rig whose supervisor obeys rules_rig_supervisor's commands; `policy` as for policy_sources."""
        sources = policy_sources(supervisor=('"supervisor.main"', '"tests.egress.rules_rig_supervisor"'), **policy)
        with Rig(self.lab, place_policy(self.lab, "rules", sources), mutations, phase="boot") as self.rig:
            yield self.rig

    def supervisor_cgroup(self) -> str:
        """Of the rig's supervisor, as the lab has it."""
        assert self.rig is not None
        listing = self.lab.read(f"/proc/{self.rig.supervisor}/cgroup").decode()
        return next(line[4:] for line in listing.splitlines() if line.startswith("0::/"))

    def rule(self, mechanism: str, mode: str = "enforce", **more: Any) -> Rule:
        """The rule that admits the rig's supervisor."""
        ours = self.supervisor_cgroup()
        own: dict[str, Any] = {"cgroup": ours} if mechanism == "nft-cgroup" else {"uid": WIRE_UID}
        if mechanism == "iptables":
            own["cgroup"] = ours.replace("/supervisor", "/workers")
        return Rule(mechanism, mode, ADDRESS, **(own | more))  # type: ignore[arg-type]

    def guard(self, rule: Rule, own_ports: tuple[int, ...] = (), *, leftovers: bool = False) -> Message:
        """What the committer answers."""
        return self._order(GuardEgress(rule, own_ports, leftovers), EgressGuarded)

    def open(self) -> Message:
        """What the committer answers when all is to be removed."""
        return self._order(OpenEgress(), Committed)

    def _order(self, order: Message, answer: type[Message]) -> Message:
        assert self.rig is not None
        said = self.rig.ask("order", frame=encode(order, 0).hex(), final=[answer.__name__, CommitFailed.__name__])
        assert "frame" in said, said
        return decode(bytes.fromhex(said["frame"])).message

    def reach(self, port: int = 80, *, by_uid: bool = False) -> str:
        """What the supervisor's request to the host comes to."""
        assert self.rig is not None
        return str(self.rig.ask("reach", address=ADDRESS, port=port, by_uid=by_uid)["outcome"])

    def popen(self, module: str, *words: str, net: str = "", uid: int = 0, cgroup: str = "other") -> Any:
        """A module of the tests, in one of the networks, under a uid, in a cgroup of the lab's."""
        enter = ["nsenter", f"--net=/run/nets/{net}"] if net else []
        become = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if uid else []
        command = [*enter, *become, sys.executable, "-m", module, *words]
        pipe, place = subprocess.PIPE, str(PROJECT)
        return self.lab.popen(command, cgroup=cgroup, cwd=place, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)

    def outsider(self, way: str = "now", port: int = 80, **where: Any) -> str:
        """What somebody else's attempt comes to."""
        out, _ = self.popen("tests.egress.outsider", way, ADDRESS, str(port), **where).communicate(timeout=20)
        return str(out.decode().strip())

    @contextmanager
    def iptables_of(self, kind: Literal["nft", "legacy"]) -> Iterator[None]:
        """What `iptables` is on this machine, for as long as the block lasts; the older kind has a lock."""
        links = "for name in iptables iptables-restore; do ln -sf /usr/sbin/xtables-%s-multi /usr/sbin/$name; done"
        self.shell(f"{links % kind}; {'touch' if kind == 'legacy' else 'rm -f'} /run/xtables.lock")
        yield
        self.shell(f"{links % 'nft'}; rm -f /run/xtables.lock")

    def refused(self, mechanism: str) -> int:
        """What the rule has counted as refused."""
        if mechanism == "iptables":
            return iptables.counters(self.shell("iptables -w -v -S"))["refused"]
        return nft.counters(self.shell(f"nft {' '.join(nft.LIST_COUNTERS)}"))["refused"]

    def at_canary(self) -> str:
        """What becomes of a connection to the canary from the container that is routed."""
        held = self.popen("tests.egress.outsider", "hold", CANARY, str(CANARY_PORT), net="routed")
        said = held.stdout.readline().split()[0].decode()
        held.communicate(b"\n", timeout=20)
        return str(said)

    def orphan(self) -> int:
        """A connection whose process is gone and whose FIN has not arrived, because the wire is unplugged; its port."""
        held = self.popen("tests.egress.outsider", "hold", ADDRESS, "80")
        port = int(held.stdout.readline().split()[1])
        self.shell("ip link set to-host down")
        send_signal(held, signal.SIGKILL)
        held.communicate(timeout=10)
        return port

    def sent_again(self, port: int) -> int:
        """How often the kernel has sent the orphan's FIN anew; -1 when there is no such connection any more."""
        listed = self.shell(f"ss -Htno state fin-wait-1 'sport = :{port}'")
        found = re.search(r"timer:\(on,[^,]*,(\d+)\)", listed)
        return int(found[1]) if found else -1

    def fragments(self) -> int:
        """How many later parts of packets have come to the host; from the first call on."""
        at_host = "nsenter --net=/run/nets/host nft"
        if "table ip seen" not in self.shell(f"{at_host} list tables"):
            chain = "type filter hook prerouting priority -450; ip frag-off & 0x1fff != 0 counter name parts"
            self.shell(f"{at_host} 'table ip seen {{\ncounter parts {{}}\nchain in {{\n{chain}\n}}\n}}'")
        return nft.counters(self.shell(f"{at_host} list counters table ip seen"))["parts"]

    def tracked(self) -> int:
        """Connections that the kernel tracks here."""
        return int(self.shell("cat /proc/sys/net/netfilter/nf_conntrack_count"))

    def set(self, name: str, value: int) -> None:
        """A setting of the lab's network, below /proc/sys/net; the lab's own /proc is read-only there."""
        inner = f"mount -t proc proc /mnt && echo {value} >/mnt/sys/net/{name}"
        self.shell(f"unshare --mount sh -c '{inner}'")

    def shell(self, line: str) -> str:
        """What a shell in the lab prints."""
        return self.lab.output("sh", "-c", line)

    def close(self) -> None:
        """Let the host go; it ends with the lab."""
        for pipe in (self._host.stdin, self._host.stdout):
            pipe.close()


@contextmanager
def ground() -> Iterator[Ground]:
    """For a module's tests."""
    with Lab() as lab:
        place = Ground(lab)
        try:
            yield place
        finally:
            place.close()
