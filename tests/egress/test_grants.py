# SPDX-License-Identifier: Apache-2.0
"""A handler's grant to the WireServer, on a real VM: what is within it arrives, nothing else does."""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.egress.granted import (
    BODY_BYTES,
    GRANT,
    HANDLER,
    LISTENER,
    PATH,
    REFUSED,
    TABLE,
    WITHOUT_PROGRAMS,
    Granted,
    granted,
    post,
)
from tests.egress.yard import NOBODY
from tests.fabric.scene import AGENT, kill_process
from tests.fabric.waiting import until
from tests.jail.mutants import Mutation

pytestmark = pytest.mark.root

CERTIFICATES = "/machine?comp=certificates"
CHUNKED = f"POST {PATH} HTTP/1.1\r\nHost: 168.63.129.16\r\nTransfer-Encoding: chunked\r\n".encode()
HIDDEN = post(target=CERTIFICATES, method="GET")
# What an attacker in the handler's place sends, and the status that it gets.
ATTACKS: dict[str, tuple[bytes, int]] = {
    "another resource": (post(b"", CERTIFICATES, method="GET"), 403),
    "another method": (post(b"", method="GET"), 403),
    "another query": (post(target=f"{PATH}?api-version=2017-12-01&comp=certificates"), 403),
    "dot segments": (post(target=f"{PATH}/../../../../machine?comp=certificates"), 403),
    "encoded dot segments": (post(target=f"{PATH}/%2e%2e/%2E%2E/machine"), 403),
    "encoded slashes": (post(target=f"{PATH}%2f..%2f..%2fmachine"), 403),
    "a backslash": (post(target=f"{PATH}\\..\\machine"), 403),
    "two slashes": (post(target=f"/{PATH}"), 403),
    "the absolute form": (post(target=f"http://168.63.129.16{PATH}"), 403),
    "the authority form": (post(b"", "168.63.129.16:80", method="CONNECT"), 403),
    "the asterisk": (post(b"", "*", method="OPTIONS"), 403),
    "a fragment": (post(target=f"{PATH}#/machine"), 403),
    "another host": (post().replace(b"Host: 168.63.129.16", b"Host: 169.254.169.254"), 400),
    "two hosts": (post(b"{}", PATH, "Host: 168.63.129.16"), 400),
    "no host": (post().replace(b"Host: 168.63.129.16\r\n", b""), 400),
    "a length told twice": (CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n" + HIDDEN, 400),
    "two lengths": (post(b"{}", PATH, "Content-Length: 60") + HIDDEN, 400),
    "a second request behind the first": (post() + HIDDEN, 400),
    "a second request behind chunks": (CHUNKED + b"\r\n2\r\n{}\r\n0\r\n\r\n" + HIDDEN, 400),
    "headers behind the body": (CHUNKED + b"\r\n0\r\nHost: 169.254.169.254\r\n\r\n", 400),
    "another coding": (CHUNKED.replace(b"chunked", b"gzip, chunked") + b"\r\n0\r\n\r\n", 501),
    "an expectation": (post(b"{}", PATH, "Expect: 100-continue"), 417),
    "an upgrade": (post(b"{}", PATH, "Upgrade: websocket", "Connection: upgrade"), 400),
    "a long body": (post(b"x" * (BODY_BYTES + 1)), 413),
    "a long body in chunks": (CHUNKED + b"\r\n1001\r\n" + b"x" * 4097 + b"\r\n0\r\n\r\n", 413),
    "a long head": (post(b"{}", PATH, "X: " + "x" * 20000), 431),
    "a head without an end": (b"POST " + b"/a" * 20000, 431),
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "a header over two lines": (post().replace(b"Host:", b"Host:\r\n 169.254.169.254\r\nX:"), 400),
}
AUTHORITY = ("x-ms-azure-host-claims: {}", "x-ms-azure-host-authorization: a", "Authorization: b", "Metadata: True")


def headers(record: dict[str, object]) -> list[tuple[str, str]]:
    """Of a request that has arrived, names in lower case."""
    return [(name.lower(), value) for name, value in record["headers"]]  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def vm() -> Iterator[Granted]:
    with granted() as made:
        yield made


def test_what_is_within_the_grant_arrives_and_is_answered(vm: Granted) -> None:
    for target, way in ((PATH, "once"), (f"{PATH}?api-version=2017-12-01", "mapped")):
        before = len(vm.seen())
        reply = vm.send(post(b'{"a": 1}', target, "Backup: true", *AUTHORITY), (way,))
        assert reply.status == 200, reply.text
        assert reply.text.endswith('{"bytes": 8}')
        arrived = vm.seen()[before:]
        assert [(each["method"], each["target"], each["body"]) for each in arrived] == [("POST", target, '{"a": 1}')]
        names = {name for name, _ in headers(arrived[0])}
        assert names == {"host", "accept-encoding", "content-length", "backup"}
    until("the record", lambda: '"forwarded"' in vm.vm.lab.read("/var/lib/agent-supervisor/audit.log").decode())


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_not_is_refused_and_never_arrives(vm: Granted, attack: str) -> None:
    content, status = ATTACKS[attack]
    before, forwarders = len(vm.seen()), vm.forwarders()
    reply = vm.send(content)
    assert reply.status == status, reply.text
    if status == 403:
        assert f"Vendor.Snapshot may POST {PATH}" in reply.text
    assert vm.seen()[before:] == []
    assert vm.forwarders() == forwarders


def test_every_process_is_as_its_policy_says_while_it_is_open(vm: Granted) -> None:
    done = vm.vm.lab.run([str(AGENT), "audit", "--deep"])
    assert done.returncode == 0, done.stdout
    assert "forwarder.0" in done.stdout


def test_nobody_else_reaches_the_listener_or_the_host(vm: Granted) -> None:
    before = len(vm.seen())
    for way in (("once",), ("mapped",), LISTENER):
        for cgroup, uid in (("other", 0), ("other", NOBODY), ("agent/other", 0)):
            assert vm.send(post(), way, cgroup, uid).text == REFUSED
    assert vm.seen()[before:] == []
    # So it is the cgroup that counts, and not who is in it.
    assert vm.send(post(), LISTENER, HANDLER, NOBODY).status == 200


def test_who_is_slow_is_cut_off_and_who_comes_in_crowds_waits(vm: Granted) -> None:
    slow = vm.begin(("slowly",))
    assert slow.stdin is not None
    slow.stdin.write(post())
    slow.stdin.close()
    slow.stdin = None
    assert vm.send(post()).status == 200, "while somebody else is slow"
    out, _ = slow.communicate(timeout=30)
    assert b" 408 " in out
    assert 9 < float(out.split(b"\n")[0]) < 13
    crowd = vm.begin(("crowd", "200"))
    assert crowd.stdout is not None
    assert crowd.stdout.readline() == b"begun\n"
    [forwarder] = vm.forwarders()
    held = [os.readlink(f"/proc/{forwarder}/fd/{name}") for name in os.listdir(f"/proc/{forwarder}/fd")]  # noqa: PTH115, PTH208
    assert len([link for link in held if link.startswith("socket:")]) <= 10, held
    crowd.kill()
    crowd.communicate(timeout=10)
    until("an answer again", lambda: vm.send(post()).status == 200, 30)
    assert vm.vm.slowest_ps_s < 1.0


def test_a_forwarder_that_is_killed_is_replaced(vm: Granted) -> None:
    [forwarder] = vm.forwarders()
    assert kill_process(forwarder)
    assert vm.send(post()).status == 200
    assert vm.forwarders() != [forwarder]


def test_a_table_that_somebody_removes_closes_the_way_and_is_put_back(vm: Granted) -> None:
    before = vm.opened()
    vm.vm.lab.output("nft", "delete", "table", "ip", TABLE)
    until("the grant opened anew", lambda: vm.opened() > before)
    assert "its table was changed by nft" in vm.log()
    assert vm.send(post(), LISTENER, "other").text == REFUSED
    assert vm.send(post()).status == 200


def test_a_host_that_is_down_is_said_to_be(vm: Granted) -> None:
    vm.steer("fault snapshot:reset")
    try:
        assert vm.send(post()).status == 502
    finally:
        vm.steer("clear")


def test_the_grant_ends_with_its_cgroup_and_comes_with_it(vm: Granted) -> None:
    cgroups = vm.vm.lab.cgroups
    folder = cgroups.get("unified", cgroups.get("")) / HANDLER  # type: ignore[operator]
    before = vm.opened()
    folder.rmdir()
    until("the grant closed", lambda: "grant: Vendor.Snapshot: closed" in vm.log())
    assert TABLE not in vm.vm.lab.output("nft", "list", "tables")
    assert vm.forwarders() == []
    folder.mkdir()
    assert vm.send(post()).text == REFUSED
    until("the grant opened anew", lambda: vm.opened() > before)
    assert vm.send(post()).status == 200


def test_more_rules_of_others_than_can_be_told_close_nothing() -> None:
    """The watch's memory is small here; what others load is not."""
    small = Mutation("workers.committers.egress_watch", "BUFFER_BYTES = 4 << 20", "BUFFER_BYTES = 32 << 10")
    with granted(small) as vm:
        assert vm.send(post()).status == 200
        before, forwarders = vm.committers(), vm.forwarders()
        rules = "\n".join(f"add rule ip others some tcp dport {port} accept" for port in range(1, 3000))
        done = vm.vm.lab.run(
            ["nft", "-f", "-"], given=f"add table ip others\nadd chain ip others some\n{rules}".encode()
        )
        assert done.returncode == 0, done.stderr
        until("the table looked at", lambda: vm.committers() > before)
        assert vm.send(post()).status == 200
        assert (vm.forwarders(), "Vendor.Snapshot: its table was changed" in vm.log()) == (forwarders, False)
        # It is watched as before.
        opened = vm.opened()
        vm.vm.lab.output("nft", "delete", "table", "ip", TABLE)
        until("the grant opened anew", lambda: vm.opened() > opened)
        assert vm.send(post(), LISTENER, "other").text == REFUSED


def test_without_the_agent_the_handler_is_refused(vm: Granted) -> None:
    """The last one with this VM."""
    spawner, _ = vm.vm.settled()
    assert vm.send(post()).status == 200
    os.kill(spawner, signal.SIGKILL)
    until("nobody left", lambda: vm.vm.ps_or_none() is None and not vm.forwarders())
    before = len(vm.seen())
    for way in (("once",), ("mapped",), LISTENER):
        assert vm.send(post(), way).text == REFUSED
    assert vm.seen()[before:] == []


def test_where_the_kernel_has_no_programs_addresses_are_translated() -> None:
    with granted(overrides=WITHOUT_PROGRAMS, channel="enforce") as vm:
        assert "by address translation, for which the kernel tracks connections" in vm.log()
        # The host demands the supervisor's signature, and gets it in place of what the handler says.
        assert vm.send(post(b"{}", PATH, *AUTHORITY)).status == 200
        [authorized] = [value for name, value in headers(vm.seen()[-1]) if name == "x-ms-azure-host-authorization"]
        assert authorized != "a"
        assert vm.send(post(target=CERTIFICATES)).status == 403
        assert vm.send(post(), ("once",), "other").text == REFUSED
        assert vm.send(post(), LISTENER, "other").text == REFUSED
        spawner, _ = vm.vm.settled()
        os.kill(spawner, signal.SIGKILL)
        until("nobody left", lambda: vm.vm.ps_or_none() is None and not vm.forwarders())
        assert vm.send(post()).text == REFUSED


def test_the_supervisor_judges_what_the_forwarder_let_through() -> None:
    blind = Mutation("workers.forwarder.request", "if not permitted(grant, method, target):", "if False:")
    short_lived = Mutation("workers.forwarder.main", "MOST_TOLD = 250", "MOST_TOLD = 3")
    with granted(blind, short_lived) as vm:
        assert vm.send(post(target=CERTIFICATES)).status == 0
        until("the violation", lambda: "a request that is not within the grant of Vendor.Snapshot" in vm.log())
        assert vm.seen() == []
        until("a forwarder again", lambda: vm.send(post()).status == 200)
        # One that has had its share is followed by a fresh one, and nobody notices.
        assert [vm.send(post()).status for _ in range(7)] == [200] * 7
        assert "forwarder.0 ended" not in vm.log().rpartition("not within the grant")[2]
        assert vm.vm.scene.stop_agent(vm.vm.agent) == 0
        assert TABLE not in vm.vm.lab.output("nft", "list", "tables")
        assert vm.send(post()).text == REFUSED


def test_a_cgroup_that_has_the_agent_in_it_is_granted_nothing() -> None:
    other = GRANT.replace(b"Vendor.Snapshot", b"Vendor.Wide").replace(b'cgroup = "handler"', b'cgroup = "agent"')
    with granted(overrides=other) as vm:
        told = "Vendor.Wide: not open, tried again every 30 s: its cgroup, agent, has this agent in it"
        until("it is said", lambda: told in vm.log())
        assert vm.send(post()).status == 200


def test_a_table_that_refuses_nobody_is_no_grant_and_without_it_others_reach_the_listener() -> None:
    open_to_all = Mutation("policy.egress.redirect", "counter reject with tcp reset", "counter accept")
    with granted(open_to_all) as vm:
        assert "the table is loaded and refuses nobody" in vm.log()
        assert vm.send(post()).text == REFUSED
    found = 'raise CommitError("the table is loaded and refuses nobody: who is not of the cgroup reaches the listener")'
    untried = Mutation("workers.committers.redirect", found, "return")
    with granted(open_to_all, untried) as vm:
        assert vm.send(post(), LISTENER, "other", NOBODY).status == 200
