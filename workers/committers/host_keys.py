# SPDX-License-Identifier: Apache-2.0
"""Committer of SSH host keys: makes them in a folder of their own, later puts them in place (provisioning.md 7). Root.

Making and installing are two requests, so that the slow one can run beside everything else. A run that was killed at
any point is repeated: the staging folder appears whole or not at all, and each key replaces its elder by rename.
"""

import base64
import binascii
import os
from collections.abc import Callable
from pathlib import Path

from ipc.channel import Channel
from ipc.digest import sha256_hex
from ipc.errors import CommitError
from ipc.messages import InstallHostKeys, MakeHostKeys
from workers.committers import atomic_file
from workers.committers.commit import Workplace, serve

PATTERN = "ssh_host_*key*"
PRIVATE_MODE = 0o600
PUBLIC_MODE = 0o644


def make_keys(request: MakeHostKeys, work: Workplace) -> str:
    """Fill `staging`; unless `fresh`, a folder that is there already is complete. The fact is the fingerprints."""
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
            key = making / f"ssh_host_{request.key_type}_key"
            work.tools.run_well("ssh-keygen", "-q", "-t", request.key_type, "-N", "", "-f", str(key))
        for path in making.iterdir():
            path.chmod(PUBLIC_MODE if path.suffix == ".pub" else PRIVATE_MODE)
            _sync(path)
        atomic_file.sync_folder(making)
        making.rename(staging)
        atomic_file.sync_folder(staging.parent)
        work.wrote(*(f"{request.staging}/{path.name}" for path in sorted(staging.iterdir())))
    publics = sorted(staging.glob("*_key.pub"))
    wanted = "*" if request.key_type == "auto" else request.key_type
    if not any(path.match(f"ssh_host_{wanted}_key.pub") for path in publics):
        raise CommitError(f"{request.staging} holds no {request.key_type} host key")
    return _fingerprints(publics)


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
    publics = sorted(ssh_dir.glob("ssh_host_*_key.pub"))
    if not publics or not all(path.with_suffix("").is_file() for path in publics):
        raise CommitError(f"{request.ssh_dir} has no complete host keys, and {request.staging} is not there")
    return f"{_fingerprints(publics)}"


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


def fingerprint(line: str) -> str:
    """`TYPE SHA256:...` of a public key line, as ssh-keygen prints it; CommitError for anything else."""
    words = line.split()
    try:
        blob = base64.b64decode(words[1], validate=True)
    except (IndexError, binascii.Error):
        raise CommitError("ssh-keygen made no usable public key") from None
    digest = base64.b64encode(bytes.fromhex(sha256_hex([blob]))).decode().rstrip("=")
    return f"{words[0]} SHA256:{digest}"


def _fingerprints(publics: list[Path]) -> str:
    return ", ".join(fingerprint(path.read_bytes().decode("utf-8", "replace")) for path in publics)


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
    serve(channel, lock, {MakeHostKeys: make_keys, InstallHostKeys: install_keys})
