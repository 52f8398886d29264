# SPDX-License-Identifier: Apache-2.0
"""What a hijacked supervisor gets of redirects, and a container of a grant's listener: what policy grants, or nothing.

Without the control in question each of them gets it.
"""

import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.fabric.lab import PROJECT, Lab
from tests.jail.mutants import Mutation
from tests.jail.rigged import Rig, place_bait, place_policy, policy_sources

pytestmark = pytest.mark.root

ADDRESS, CGROUP, OTHER = "168.63.129.16", "granted", "other"
SERVING = ("redirect", "forwarder")
STARTABLE = Mutation("policy.profile", "frozenset[str]() if self.wireserver else SERVING_GRANTS", "frozenset[str]()")
REDIRECT = "workers.committers.redirect"
UNCHECKED = (
    Mutation(REDIRECT, "if not request.cgroup or (request.cgroup, request.port) not in places:", "if False:"),
    Mutation(REDIRECT, "if not redirect.can_be_a_host(request.address):", "if False:"),
)
LET_IN = Mutation("policy.egress.redirect", "ip daddr {address} drop", "ip daddr {address} accept")
# What a hijacked supervisor may ask for: cgroup and address.
BEYOND = [(OTHER, ADDRESS), ("", ADDRESS), (CGROUP, "169.254.169.254"), (CGROUP, "127.0.0.1"), (CGROUP, "255.1.1.1")]
# Another network behind this one, whose loopback addresses are routed here, as with a container's published ports.
CONTAINER = """
set -e
mkdir -p /run/nets
touch /run/nets/container
unshare --net=/run/nets/container true
at() { nsenter --net=/run/nets/container "$@"; }
ip link add outer type veth peer name inner netns /run/nets/container
ip addr add 10.9.0.1/24 dev outer
ip link set outer up
at ip link set lo up
at ip addr del 127.0.0.1/8 dev lo
at ip addr add 10.9.0.2/24 dev inner
at ip link set inner up
at ip route add 127.63.129.0/24 via 10.9.0.1 dev inner
route='mount -t proc proc /mnt && echo 1 >/mnt/sys/net/ipv4/conf/all/route_localnet'
unshare --mount sh -c "$route"
at unshare --mount sh -c "$route"
"""
LISTENER = """
import socket, sys
with socket.create_server(("127.63.129.17", 326)):
    print(flush=True)
    sys.stdin.read()
"""
CALLER = """
import socket
try:
    socket.create_connection(("127.63.129.17", 326), 1).close()
    print("reached")
except OSError as error:
    print(type(error).__name__)
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as lab:
        place_bait(lab)
        assert lab.run(["ip", "link", "set", "lo", "up"]).returncode == 0
        for folder in lab.cgroups.values():
            for name in (CGROUP, OTHER):
                (folder / name).mkdir(exist_ok=True)
        yield lab


@pytest.fixture(scope="module")
def policy(lab: Lab) -> str:
    return place_policy(lab, "plain", policy_sources())


def asked(rig: Rig, name: str = "OpenGrant", final: str = "RedirectAttached", **fields: object) -> str:
    """What a committer of the redirect answers."""
    request = json.dumps({name: {"slot": 0, **fields}})
    said = rig.ask("job", kind="redirect", content="", request=request, final=final, bait=False)
    assert "messages" in said, said
    return str(said["problem"] or said["messages"][-1])


def test_nothing_that_serves_grants_is_started_where_there_is_none(lab: Lab, policy: str) -> None:
    with Rig(lab, policy, granted=(), phase="steady") as rig:
        for kind in SERVING:
            said = rig.ask("start", kind=kind)
            assert f"no policy lets a worker of kind '{kind}' be started" in str(said), said
    with Rig(lab, policy, (STARTABLE,), granted=(), phase="steady") as rig:
        assert all("serial" in rig.ask("start", kind=kind) for kind in SERVING)


def test_a_redirect_is_for_a_cgroup_and_an_address_of_a_grant(lab: Lab, policy: str) -> None:
    with Rig(lab, policy, granted=(CGROUP,), phase="steady") as rig:
        for cgroup, address in BEYOND:
            expected = "is no address of a WireServer" if cgroup == CGROUP else "policy has no grant for cgroup"
            assert expected in asked(rig, cgroup=cgroup, address=address)
            assert expected in asked(rig, "WatchGrant", "GrantWatched", cgroup=cgroup, address=address, natted=True)
        assert "agent_supervisor_grant" not in lab.output("nft", "list", "tables")
        assert asked(rig, cgroup=CGROUP, address=ADDRESS) == "RedirectAttached"
    with Rig(lab, policy, UNCHECKED, granted=(CGROUP,), phase="steady") as rig:
        for cgroup, address in BEYOND[:1] + BEYOND[2:]:
            assert asked(rig, cgroup=cgroup, address=address) == "RedirectAttached", (cgroup, address)


def test_a_container_does_not_reach_the_listener_though_loopback_is_routed(lab: Lab, policy: str) -> None:
    done = lab.run(["sh", "-c", CONTAINER])
    assert done.returncode == 0, done.stderr
    assert from_a_container(lab, policy) == "TimeoutError"
    assert from_a_container(lab, policy, LET_IN) == "reached"


def from_a_container(lab: Lab, policy: str, *mutations: Mutation) -> str:
    """What it gets of a listener where the table of an open grant is."""
    with Rig(lab, policy, mutations, granted=(CGROUP,), phase="steady") as rig:
        assert asked(rig, cgroup=CGROUP, address=ADDRESS) == "RedirectAttached"
    command, pipe = [sys.executable, "-I", "-c", LISTENER], subprocess.PIPE
    with lab.popen(command, cwd=str(PROJECT), stdin=pipe, stdout=pipe) as listener:
        assert listener.stdout is not None
        assert listener.stdout.readline() == b"\n"
        enter = ["nsenter", "--net=/run/nets/container"]
        return lab.output(*enter, sys.executable, "-I", "-c", CALLER).strip()
