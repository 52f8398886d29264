# SPDX-License-Identifier: Apache-2.0
"""The jobs of a grant to the WireServer: who redirects one cgroup's connections, and who reads what comes of them."""

import sys
from collections.abc import Callable, Iterator

from ipc.messages import (
    CloseGrant,
    CommitFailed,
    Committed,
    Forward,
    ForwardRefused,
    ForwardRequest,
    GrantWatched,
    Message,
    OpenGrant,
    RedirectAttached,
    RedirectLoaded,
    WatchGrant,
    WireGrant,
)
from policy.egress import redirect
from tests.fabric.lab import PROJECT
from tests.least.of_documents import STRANGE, _is_told
from tests.least.place import Place
from tests.least.scenario import Reply, Scenario, nothing
from tests.least.shapes import with_a_real_lib, with_a_real_lib64, with_programs_in

ADDRESS, CGROUP = "168.63.129.16", "granted"
PATH = "/metadata/recsvc/snapshot/dosnapshot"
GRANT = WireGrant("Vendor.Snapshot", ("POST",), (PATH,), "The backup calls the host itself.", CGROUP)
FORWARD = Forward(GRANT, ADDRESS)
OPEN, CLOSE, WATCH = OpenGrant(0, CGROUP, ADDRESS), CloseGrant(0), WatchGrant(0, CGROUP, ADDRESS, natted=False)
HEAD = f"POST %s HTTP/1.1\r\nHost: {ADDRESS}\r\nAccept: */*\r\nContent-Length: %d\r\n\r\n"
HIERARCHY = "$(ls -d /sys/fs/cgroup/unified 2>/dev/null || echo /sys/fs/cgroup)"
REMOVE = f"nft flush ruleset; rmdir {HIERARCHY}/{CGROUP}; true"


def scenarios() -> Iterator[Scenario]:
    yield _redirect("a grant", OPEN, _is_attached)
    yield _redirect("a cgroup that another program has", OPEN, _is_loaded, _taken, "RedirectLoaded in steady")
    yield _redirect("a grant watched anew", WATCH, _is_watched, about="GrantWatched in steady")
    yield _redirect("its end", CLOSE, _is_closed, _loaded, "Committed in steady")
    yield _redirect(
        "a cgroup that is none", OpenGrant(0, "no/such/group", ADDRESS), _has_failed, about="CommitFailed in steady"
    )
    yield _redirect("a machine whose nft is in /sbin", OPEN, _is_attached, _in("/sbin"), "/sbin")
    yield _redirect("a machine whose nft is in /bin", OPEN, _is_attached, _in("/bin"), "/bin")
    yield _redirect("a machine with a real lib", OPEN, _is_attached, with_a_real_lib, "/lib")
    yield _redirect("a machine with a real lib64", OPEN, _is_attached, with_a_real_lib64, "/lib64")
    yield _forward("a request within the grant", PATH, b"{}", _is_passed_on)
    yield _forward("a request outside the grant", "/machine", b"", _is_refused)
    about = frozenset({"no-files"})
    yield Scenario("forwarder", "a fault, and where it was", STRANGE, (), _is_told, about=about, phase="steady")


def _redirect(
    name: str,
    request: Message,
    check: Callable[[Place, Reply], None],
    prepare: Callable[[Place], None] = nothing,
    about: str = "",
) -> Scenario:
    def prepared(place: Place) -> None:
        place.run("sh", "-c", f"mkdir -p {HIERARCHY}/{CGROUP}")
        place.finally_run("sh", "-c", REMOVE)
        prepare(place)

    final = (RedirectAttached, RedirectLoaded, GrantWatched, Committed)
    return Scenario("redirect", name, request, final, check, prepared, about=frozenset({about}), phase="steady")


def _forward(name: str, target: str, body: bytes, check: Callable[[Place, Reply], None]) -> Scenario:
    given = (("listener", (HEAD % (target, len(body))).encode() + body),)
    final = (ForwardRequest, ForwardRefused)
    return Scenario("forwarder", name, FORWARD, final, check, given=given, phase="steady")


def _in(folder: str) -> Callable[[Place], None]:
    return lambda place: with_programs_in(place, folder, ("nft",))


def _loaded(place: Place) -> None:
    place.run("nft", f"add table ip {redirect.table(0)}")


def _taken(place: Place) -> None:
    """Somebody has attached a program that admits no other beside it."""
    command = f"cd {PROJECT} && {sys.executable} -m tests.least.sole_program {HIERARCHY}/{CGROUP}"
    place.run("sh", "-c", command)


def _is_attached(_: Place, reply: Reply) -> None:
    assert reply.last(RedirectAttached).fact == f"{CGROUP} is redirected by programs of its own"


def _is_loaded(_: Place, reply: Reply) -> None:
    assert "by address translation" in reply.last(RedirectLoaded).fact


def _is_watched(place: Place, reply: Reply) -> None:
    reply.last(GrantWatched)
    place.run("nft", f"list table ip {redirect.table(0)}")


def _is_closed(place: Place, reply: Reply) -> None:
    reply.last(Committed)
    place.run("sh", "-c", f"! nft list table ip {redirect.table(0)}")


def _has_failed(_: Place, reply: Reply) -> None:
    assert "where the cgroup of a handler is expected" in reply.last(CommitFailed).problem


def _is_passed_on(_: Place, reply: Reply) -> None:
    assert reply.last(ForwardRequest) == ForwardRequest("POST", PATH, (("accept", "*/*"),))
    assert reply.contents[-1] == (b"{}",)


def _is_refused(_: Place, reply: Reply) -> None:
    assert reply.last(ForwardRefused).status == 403
