# SPDX-License-Identifier: Apache-2.0
"""Owns what a vendor's command sees of the agent's folders: its own of the handlers', its one key pair, none of ours.

Runs in the child that becomes the command. All else is the machine's, and what it mounts there reaches the machine: a
limit to accidents, no boundary, for it is root. It must never let a command start that sees more.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from supervisor.jail import mounts, syscalls
from supervisor.jail.mount_points import mount_point

TYPE_CHECKING = False
if TYPE_CHECKING:
    from supervisor.jail.handler_order import HandlerOrder

_NEWNS = 0x00020000
_BIND = 4096
# What statvfs calls a mount that nothing can be run in.
_NOEXEC = 8
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
# In the folder that all handlers know: what this agent, or one before it, keeps there and no handler has a use for.
SECRET_ENDS = (".prv", ".pem", ".p7m", ".pfx", ".manifest.xml")
SECRET_STARTS = ("CustomData", "ovf-env.xml", "ExtensionsConfig.", "VmSettings.", "history")
LEFT_ENDS = (".new", ".old", ".gone")


def enter(order: "HandlerOrder", keys_in: str) -> tuple[str, ...]:
    """Leave the machine's mount namespace for one with the view of `order`, whose keys are files in folder `keys_in`.

    Returns what of it could not be had, a sentence each. OSError when something can't be kept from it."""
    missing: list[str] = []
    with _or_refused(f"{order.lib} can't be shown to it without what is others'"):
        _make_places(order)
        apart = _Apart(order)
    apart.make_executable(missing)
    inside = os.open(apart.lib, _FOLDER)
    for name in keys_of(order):
        with _or_said(missing, f"{order.lib}/{name} can't be shown to it"):
            _show(f"{keys_in}/{name}", name, inside)
    for name in sorted(os.listdir(f"/proc/self/fd/{inside}")):
        with _or_refused(f"{order.lib}/{name}, which is not its own, can't be covered"):
            _cover(name, inside, order)
    for path in order.hidden:
        with _or_refused(f"{path} can't be covered"):
            mounts.cover((path,))
    apart.join_again(missing)
    return tuple(missing)


def keys_of(order: "HandlerOrder") -> tuple[str, ...]:
    """Names of the files of its key pair, beside the order and in its view."""
    return (f"{order.thumbprint}.crt", f"{order.thumbprint}.prv") if order.thumbprint else ()


class _Apart:
    """A mount namespace in which the mounts that are about to be covered are nobody's peers, until they join again.

    A cover that is laid on a peer would show up everywhere."""

    def __init__(self, order: "HandlerOrder") -> None:
        self.lib = os.path.realpath(order.lib)
        there = [self.lib, *filter(os.path.isdir, order.hidden)]
        points = {path: mount_point(path) for path in there}
        self._outside = {point: os.open(point, os.O_PATH | os.O_CLOEXEC) for point, _ in points.values()}
        self._point_of_lib, _ = points[self.lib]
        self._lonely = sorted({point for point, is_shared in points.values() if not is_shared})
        syscalls.unshare(_NEWNS)
        # By the mount itself: later another one may lie on top of it.
        self._peers = [(os.open(path, os.O_PATH | os.O_CLOEXEC), root) for path, root in self._outside.items()]
        self._copy = syscalls.clone_tree(self.lib) if os.statvfs(self.lib).f_flag & _NOEXEC else -1
        for path in self._outside:
            mounts.make_private(path, below=False)

    def make_executable(self, missing: list[str]) -> None:
        """Have programs run in the handlers' folder, where it lies in a mount that is noexec."""
        if self._copy < 0:
            return
        with _or_said(missing, f"nothing can be run in {self.lib}, which is mounted noexec"):
            syscalls.attach_tree(self._copy, self.lib)
            mounts.make_private(self.lib, below=False)
            self._peers.append((os.open(self.lib, os.O_PATH | os.O_CLOEXEC), self._outside[self._point_of_lib]))
            mounts.make_executable(self.lib)

    def join_again(self, missing: list[str]) -> None:
        """What is mounted from now on is the machine's."""
        if self._lonely:
            missing.append(f"what it mounts stays in its own view: {', '.join(self._lonely)} is mounted private here")
            return
        for mount, root in self._peers:
            with _or_said(missing, "what it mounts stays in its own view"):
                syscalls.share_as(root, f"/proc/self/fd/{mount}/.")


@contextmanager
def _or_said(missing: list[str], what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        missing.append(f"{what}: {error.strerror or error}")


@contextmanager
def _or_refused(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"{what}: {error.strerror or error}") from None


def _make_places(order: "HandlerOrder") -> None:
    """Empty files, in which nobody but the command finds anything: a mount has to lie on something."""
    folder = os.open(order.lib, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in keys_of(order):
            with suppress(FileExistsError):
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                os.close(os.open(name, flags, 0o400, dir_fd=folder))
    finally:
        os.close(folder)


def _show(source: str, name: str, folder: int) -> None:
    place = os.open(name, _FILE, dir_fd=folder)
    if not stat.S_ISREG(os.fstat(place).st_mode):
        raise OSError(0, "something that is no file is there")
    syscalls.mount(source, f"/proc/self/fd/{place}", None, _BIND)
    mounts.make_bare(f"/proc/self/fd/{os.open(name, _FILE, dir_fd=folder)}")


def _cover(name: str, folder: int, order: "HandlerOrder") -> None:
    """If it is another handler's folder, or a secret that is not its own."""
    secret = name.endswith(SECRET_ENDS) or name.startswith(SECRET_STARTS)
    if name in keys_of(order) or name in order.folders or not (secret or _is_of_handler(name)):
        return
    try:
        place = os.open(name, _FILE, dir_fd=folder)
    except FileNotFoundError:
        # It went this moment.
        return
    kind = os.fstat(place).st_mode
    if stat.S_ISDIR(kind):
        mounts.cover((f"/proc/self/fd/{place}",))
    elif stat.S_ISREG(kind):
        syscalls.mount("/dev/null", f"/proc/self/fd/{place}", None, _BIND)


def _is_of_handler(name: str) -> bool:
    """Whether a handler's folder is called so: NAME-VERSION; or what a change of one leaves beside it: .NAME.old."""
    if name.startswith("."):
        return name.rstrip("0123456789").endswith(LEFT_ENDS)
    handler, _, version = name.rpartition("-")
    return bool(handler) and version[:1].isdigit() and not version.strip("0123456789.")
