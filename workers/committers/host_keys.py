# SPDX-License-Identifier: Apache-2.0
"""Committer of SSH host keys: makes them in a folder of their own, later puts them in place (provisioning.md 7). Root.

Making and installing are two requests, so that the slow one can run beside everything else. A run that was killed at
any point is repeated: the staging folder appears whole or not at all, and each key replaces its elder by rename.
"""

import os
from collections.abc import Callable
from pathlib import Path

from ipc.channel import Channel
from ipc.errors import CommitError
from ipc.messages import HostKey, InstallHostKeys, MakeHostKeys, Message, ReadHostKeys
from workers.committers import atomic_file
from workers.committers.commit import Act, Workplace, serve
from workers.committers.public_key import read_public
from workers.committers.tools import Tools
from workers.companion import companion

PATTERN = "ssh_host_*key*"
PUBLIC_PATTERN = "ssh_host_*_key.pub"
# As many as one answer holds; ssh-keygen makes three or four.
MOST_KEYS = 8
PRIVATE_MODE = 0o600
PUBLIC_MODE = 0o644


def make_keys(request: MakeHostKeys, work: Workplace) -> str:
    """Fill `staging`; unless `fresh`, a folder that is there already is complete."""
    staging = work.at(request.staging)
    if request.fresh:
        # Keys that were captured with an image would be the same on every VM made from it.
        _clear(staging)
    if not staging.is_dir():
        making = staging.with_name(f"{staging.name}.making")
        _clear(making)
        making.mkdir(mode=0o700)
        if request.key_type == "auto":
            _make_all(making, work)
        else:
            _make_one(request.key_type, making, work)
        for path in making.iterdir():
            path.chmod(PUBLIC_MODE if path.suffix == ".pub" else PRIVATE_MODE)
            _sync(path)
        atomic_file.sync_folder(making)
        making.rename(staging)
        atomic_file.sync_folder(staging.parent)
        work.wrote(*(f"{request.staging}/{path.name}" for path in sorted(staging.iterdir())))
    work.host_keys = _read_all(staging, request.staging)
    algorithms = [key.algorithm for key in work.host_keys]
    if not algorithms or request.key_type not in {"auto", *algorithms}:
        raise CommitError(f"{request.staging} holds no {request.key_type} host key")
    return f"kinds: {', '.join(algorithms)}"


def install_keys(request: InstallHostKeys, work: Workplace) -> str:
    """Private key, then public, each by rename over the old one; other old keys go last: at every moment there is a
    key of each type that will be there in the end. No `staging` means that a killed run had come to its end."""
    staging, ssh_dir = work.at(request.staging), work.at(request.ssh_dir)
    installed = staging.with_name(f"{staging.name}.installed")
    _clear(installed)
    if staging.is_dir():
        _replace_keys(staging, request.ssh_dir, work)
        staging.rename(installed)
        atomic_file.sync_folder(installed.parent)
        _clear(installed)
    publics = list(ssh_dir.glob(PUBLIC_PATTERN))
    if not publics or not all(path.with_suffix("").is_file() for path in publics):
        raise CommitError(f"{request.ssh_dir} has no complete host keys, and {request.staging} is not there")
    work.host_keys = _read_all(ssh_dir, request.ssh_dir)
    return ""


def read_keys(request: ReadHostKeys, work: Workplace) -> str:
    """The public halves of the keys in `ssh_dir`, which may be none; the fact names files that hold no key."""
    readable, unreadable = [], []
    for name in _publics(folder := work.at(request.ssh_dir)):
        try:
            readable.append(_read(folder / name, f"{request.ssh_dir}/{name}"))
        except CommitError as error:
            unreadable.append(error.problem)
    work.host_keys = tuple(readable)
    return "; ".join(unreadable)


def _replace_keys(staging: Path, ssh_dir: str, work: Workplace) -> None:
    names = sorted(path.name for path in staging.iterdir())
    if not names:
        raise CommitError("the staging folder is empty")
    for name in names:  # `..._key` sorts before `..._key.pub`
        found = atomic_file.look(staging / name)
        mode = PUBLIC_MODE if name.endswith(".pub") else PRIVATE_MODE
        if found is not None and atomic_file.write(work.at(ssh_dir) / name, found.content, mode):
            work.wrote(f"{ssh_dir}/{name}")
    for old in sorted(work.at(ssh_dir).glob(PATTERN)):
        if old.name not in names:
            old.unlink()
    atomic_file.sync_folder(work.at(ssh_dir))


def _read_all(folder: Path, shown: str) -> tuple[HostKey, ...]:
    """The keys in `folder`, which a request calls `shown`, by their names."""
    return tuple(_read(folder / name, f"{shown}/{name}") for name in _publics(folder))


def _publics(folder: Path) -> list[str]:
    """Names of the public halves in `folder`, at most as many as an answer may hold."""
    return sorted(path.name for path in folder.glob(PUBLIC_PATTERN))[:MOST_KEYS]


def _read(path: Path, shown: str) -> HostKey:
    found = atomic_file.look(path)
    if found is None:
        raise CommitError(f"{shown} is gone")
    return read_public(found.content, shown)


def _make_one(key_type: str, folder: Path, work: Workplace) -> None:
    """One key of that type. Which there are is the system's affair: DSA, for one, is no longer made everywhere."""
    path = f"{folder}/ssh_host_{key_type}_key"
    made = work.tools.run("ssh-keygen", "-q", "-t", key_type, "-N", "", "-f", path)
    if made.status != 0:
        said = f"ssh-keygen ended with status {made.status}: {made.output or 'no output'}"
        raise CommitError(
            f"no {key_type} key, which Provisioning.SshHostKeyPairType asks for, can be made here: {said}"
        )


def _make_all(folder: Path, work: Workplace) -> None:
    """Every type that this system's ssh-keygen makes by default; it insists on an etc/ssh below its prefix."""
    inner = folder / "etc" / "ssh"
    inner.mkdir(mode=0o700, parents=True)
    work.tools.run_well("ssh-keygen", "-A", "-f", str(folder))
    for path in sorted(inner.iterdir()):
        path.rename(folder / path.name)
    inner.rmdir()
    inner.parent.rmdir()


def _clear(folder: Path) -> None:
    """What a killed run left in the making."""
    if not folder.is_dir():
        return
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
    folder.rmdir()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Worker entry (workers.runtime)."""
    acts: dict[type[Message], Act] = {MakeHostKeys: make_keys, InstallHostKeys: install_keys, ReadHostKeys: read_keys}
    with companion() as ask_companion:
        serve(channel, lock, acts, Tools(ask_companion))
