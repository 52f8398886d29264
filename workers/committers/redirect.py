# SPDX-License-Identifier: Apache-2.0
"""Committer of a grant's redirect: one cgroup's connections to the WireServer go to a listener that it alone reaches.

Runs as root with CAP_NET_ADMIN, CAP_BPF and CAP_NET_BIND_SERVICE in the host's network and cgroup namespaces. It must
never hand over a listener that it reaches itself, and accepts nothing there.
"""

import errno
import os
import socket
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from ipc.channel import Channel
from ipc.errors import CommitError
from ipc.messages import CloseGrant, GrantWatched, OpenGrant, RedirectAttached, RedirectLoaded, WatchGrant, WireGrant
from ipc.provided import AttachRedirect, Main, Provided
from policy.egress import hierarchy, redirect
from workers.committers import egress_watch
from workers.committers.commit import Workplace, perform
from workers.committers.tools import Tools
from workers.companion import companion
from workers.runtime import Answer, serve_once

MOUNTS = Path("/proc/self/mountinfo")
PATIENCE_S = 8.0
# A refusal comes at once.
REFUSAL_S = 1.0
BACKLOG = 64


def check_granted(request: OpenGrant | WatchGrant, grants: Iterable[WireGrant]) -> None:
    """CommitError unless policy has a grant for that cgroup, and the address can be a WireServer's: whoever asks may be
    in the wrong hands, and must not get between others and what is not theirs.

    Any host's address, because some clouds' DHCP servers name another one than 168.63.129.16; but none of this machine
    or of its link, where the metadata service is."""
    places = {(grant.cgroup, grant.port) for grant in grants}
    if not request.cgroup or (request.cgroup, request.port) not in places:
        granted = ", ".join(f"{cgroup} to port {port}" for cgroup, port in sorted(places))
        raise CommitError(
            f"policy has no grant for cgroup {request.cgroup!r} to port {request.port}, but for {granted or 'none'}"
        )
    if not redirect.can_be_a_host(request.address):
        raise CommitError(
            f"{request.address} is no address of a WireServer: expected one of another machine, beyond the link"
        )


def open_grant(request: OpenGrant, tools: Tools, attach: AttachRedirect, mounts: Path = MOUNTS) -> Answer:
    """The answer, with the listener. CommitError, then there is no way to the listener, for nobody."""
    below = _below(mounts)
    with ExitStack() as opened:
        folder = _open_cgroup("/".join(filter(None, (hierarchy.ROOT, below, request.cgroup))))
        opened.callback(os.close, folder)
        listener = opened.enter_context(_listen(redirect.listener(request.slot)))
        watch = opened.enter_context(egress_watch.open_watch())
        try:
            _load(tools, request, below, natted=False)
            _check_refused(redirect.listener(request.slot))
            links, why_not = _attached(request, folder, attach)
            for link in links:
                opened.callback(os.close, link)
            if not links:
                _load(tools, request, below, natted=True)
            egress_watch.read_off(watch, 1 if links else 2, redirect.table(request.slot))
        except CommitError:
            _remove(tools, request.slot)
            raise
        opened.pop_all()
    os.close(folder)
    handed_over = (listener.detach(), watch.detach(), *links)
    if links:
        return RedirectAttached(f"{request.cgroup} is redirected by programs of its own"), handed_over
    tracked = "by address translation, for which the kernel tracks connections from now on"
    return RedirectLoaded(f"{request.cgroup} is redirected {tracked}: {why_not}"), handed_over


def watch_grant(request: WatchGrant, tools: Tools, mounts: Path = MOUNTS) -> Answer:
    """The answer, with the watch. CommitError when somebody is in the way."""
    with ExitStack() as opened:
        watch = opened.enter_context(egress_watch.open_watch())
        _load(tools, request, _below(mounts), natted=request.natted)
        _check_refused(redirect.listener(request.slot))
        egress_watch.read_off(watch, 1, redirect.table(request.slot))
        opened.pop_all()
    return GrantWatched(), (watch.detach(),)


def close_grant(request: CloseGrant, work: Workplace) -> str:
    """Take its table away."""
    _remove(work.tools, request.slot)
    return f"the redirect of grant {request.slot} is removed"


def _attached(request: OpenGrant, folder: int, attach: AttachRedirect) -> tuple[tuple[int, ...], str]:
    """What keeps the two programs attached, or nothing and why."""
    try:
        return attach(folder, (request.address, request.port), redirect.listener(request.slot)), ""
    except OSError as error:
        return (), f"this kernel takes no such program ({error.strerror})"


def _below(mounts: Path) -> str:
    try:
        # Bytes, because text may want a codec from disk.
        return hierarchy.below(mounts.read_bytes().decode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise CommitError(f"no cgroup can be told from another: {error}") from None


def _open_cgroup(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise CommitError(f"{path}: {error.strerror}, where the cgroup of a handler is expected") from None


def _listen(address: tuple[str, int]) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # What an earlier listener's connections have left of themselves does no harm.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        busy = ": is somebody listening at that port of every address?" if error.errno == errno.EADDRINUSE else ""
        raise CommitError(f"nobody can listen at {address[0]}:{address[1]}: {error.strerror}{busy}") from None
    return listener


def _load(tools: Tools, request: OpenGrant | WatchGrant, below: str, *, natted: bool) -> None:
    source = (request.address, request.port) if natted else None
    try:
        text = redirect.ruleset(request.slot, request.cgroup, below, source)
    except ValueError as error:
        raise CommitError(str(error)) from None
    tools.run_well("nft", "-f", "-", stdin=text.encode())


def _remove(tools: Tools, slot: int) -> None:
    tools.run_well("nft", "-f", "-", stdin=redirect.removal(slot).encode())


def _check_refused(address: tuple[str, int]) -> None:
    """This process is not of the cgroup: it has to be refused, and at once."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as outside:
        outside.settimeout(REFUSAL_S)
        try:
            outside.connect(address)
        except ConnectionRefusedError:
            return
        except TimeoutError:
            raise CommitError("who is not of the cgroup gets no answer, where a refusal is expected") from None
    raise CommitError("the table is loaded and refuses nobody: who is not of the cgroup reaches the listener")


def prepare(provided: Provided) -> Main:
    """The main function, with the one thing that no worker can do by itself, and what policy grants."""
    return partial(main, attach=provided.redirecting(), grants=provided.grants)


def main(channel: Channel, lock: Callable[[], None], *, attach: AttachRedirect, grants: tuple[WireGrant, ...]) -> None:
    """Worker entry (workers.runtime)."""
    with companion() as ask_companion:
        tools = Tools(ask_companion, PATIENCE_S)

        def on_open(request: OpenGrant, _: tuple[int, ...]) -> Iterable[Answer]:
            check_granted(request, grants)
            try:
                yield open_grant(request, tools, attach)
            except OSError as error:
                raise CommitError(f"the grant can't be opened: {error.strerror}") from None

        def on_watch(request: WatchGrant, _: tuple[int, ...]) -> Iterable[Answer]:
            check_granted(request, grants)
            try:
                yield watch_grant(request, tools)
            except OSError as error:
                raise CommitError(f"the grant can't be watched: {error.strerror}") from None

        def on_close(request: CloseGrant, _: tuple[int, ...]) -> Iterable[Answer]:
            yield perform(close_grant, request, tools=tools)

        serve_once(channel, lock, {OpenGrant: on_open, WatchGrant: on_watch, CloseGrant: on_close})
