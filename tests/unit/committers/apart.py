# SPDX-License-Identifier: Apache-2.0
"""Runs a test's body in a child with a mount namespace of its own: /etc is an overlay, /home and /var/log are empty."""

import ctypes
import os
import shutil
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000


def apart(body: Callable[[], None], *, namespaces: int = CLONE_NEWNS, system_copy: bool = True) -> None:
    """Run `body` in a forked child, in new `namespaces`; with `system_copy` over an overlay of /etc and empty
    /home, /var/log. What it raises fails the test. Nothing that it does to those folders reaches the host."""
    folder = Path(tempfile.mkdtemp(prefix="apart-"))
    said = folder.with_suffix(".said")
    try:
        child = os.fork()
        if child == 0:
            _child(body, namespaces, folder if system_copy else None, said)
        _, status = os.waitpid(child, 0)
        if status != 0:
            text = said.read_text() if said.exists() else ""
            pytest.fail(text or f"the child ended with wait status {status:#x}", pytrace=False)
    finally:
        shutil.rmtree(folder)
        said.unlink(missing_ok=True)


def _child(body: Callable[[], None], namespaces: int, folder: Path | None, said: Path) -> None:
    status = 1
    try:
        _unshare(namespaces)
        if namespaces & CLONE_NEWNS:
            _mount("--make-rprivate", "/")
        if folder is not None:
            _copy_system(folder)
        body()
        status = 0
    except BaseException:  # noqa: BLE001 - everything that ends the body is the test's failure, told by the parent
        with said.open("w") as file:
            traceback.print_exc(file=file)
    finally:
        sys.stdout.flush()
        os._exit(status)


def _copy_system(folder: Path) -> None:
    _mount("-t", "tmpfs", "tmpfs", str(folder))
    (folder / "upper").mkdir()
    (folder / "work").mkdir()
    _mount("-t", "overlay", "-o", f"lowerdir=/etc,upperdir={folder}/upper,workdir={folder}/work", "overlay", "/etc")
    for path in ("/home", "/var/log"):
        _mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", path)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _unshare(namespaces: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if namespaces and libc.unshare(namespaces) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
