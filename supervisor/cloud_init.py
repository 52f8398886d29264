# SPDX-License-Identifier: Apache-2.0
"""Owns the waiting for cloud-init (provisioning.md 3, end): for the document it leaves, then for the SSH host key.

Runs in the supervisor. A parser reads the document; here files are looked at once a second, and nothing is changed.
"""

import binascii
import os
import stat
from collections.abc import Callable

from ipc.descriptors import close_all, sealed_memfd
from ipc.digest import sha256_hex
from ipc.errors import AgentError, InputError
from ipc.messages import InputRefused, Ovf, ParseOvf
from supervisor.files import read_text
from supervisor.fleet import Fleet
from supervisor.loop import Loop

LOOK_AGAIN_S = 1.0
OVF_COPY = "ovf-env.xml"
MAX_DOCUMENT_BYTES = 1024 * 1024
# In a key every string has its length before it (RFC 4251, 5).
LENGTH_BYTES = 4


class NotMade(AgentError):
    """cloud-init did not make in time what this agent waits for."""


class CloudInit:
    """What cloud-init makes: the document in `lib`, the public host key of `key_type` in `ssh_dir`."""

    def __init__(self, loop: Loop, fleet: Fleet, patience_s: float, tell: Callable[[str], None]) -> None:
        """`patience_s` counts for each of the two; `tell` gets what is waited for, for `ps`."""
        self._loop = loop
        self._fleet = fleet
        self._patience_s = patience_s
        self._tell = tell

    async def document(self, lib: str) -> Ovf:
        """The document, once cloud-init has written it. NotMade when it doesn't, InputError when it can't be used."""
        path = f"{lib}/{OVF_COPY}"
        ends = self._waiting(path)
        refused: tuple[object, InputError] | None = None
        while True:
            version = _version(path)
            if refused is not None and refused[0] == version:
                # Nobody is writing it any more: it stays as it is.
                raise refused[1]
            try:
                if version is not None:
                    return await self._parse(path)
            except InputError as error:
                refused = version, error
            await self._look_again(ends, path, str(refused[1]) if refused is not None else "it is not there")

    async def host_key(self, ssh_dir: str, key_type: str) -> str:
        """The fingerprint of the public host key, as soon as the file is there and has one. NotMade when it hasn't."""
        path = f"{ssh_dir}/ssh_host_{'rsa' if key_type == 'auto' else key_type}_key.pub"
        ends = self._waiting(path)
        while True:
            line = read_text(path)
            found = fingerprint(line or "")
            if found:
                return found
            await self._look_again(ends, path, "it is not there" if line is None else "it holds no SSH public key")

    def _waiting(self, path: str) -> float:
        self._tell(f"waits for cloud-init: {path} is still to come ({self._patience_s:g} s at most)")
        return self._loop.clock.monotonic() + self._patience_s

    async def _look_again(self, ends: float, path: str, problem: str) -> None:
        left_s = ends - self._loop.clock.monotonic()
        if left_s <= 0:
            raise NotMade(f"cloud-init provisions this VM, and {path} was waited {self._patience_s:g} s for: {problem}")
        await self._loop.sleep(min(left_s, LOOK_AGAIN_S))

    async def _parse(self, path: str) -> Ovf:
        memfd = sealed_memfd("ovf-env", _read(path))
        try:
            answer, attached = (await self._fleet.do("parser", ParseOvf(), (memfd,), final=(Ovf,)))[-1]
        finally:
            os.close(memfd)
        close_all(attached)
        if isinstance(answer, InputRefused):
            raise InputError(f"{path}, {answer.where}", answer.problem)
        if not isinstance(answer, Ovf):
            raise InputError(path, f"{type(answer).__name__} came back")
        return answer


def fingerprint(line: str) -> str:
    """SHA256:... of the public key in `line` (a .pub file), as ssh-keygen shows it; empty when there is none."""
    if not line.endswith("\n"):
        # Still being written.
        return ""
    words = line.split()
    try:
        blob = binascii.a2b_base64(words[1], strict_mode=True) if len(words) > 1 else b""
    except ValueError:
        return ""
    # The algorithm stands in the key itself, too.
    name = words[0].encode() if words else b""
    if not blob.startswith(len(name).to_bytes(LENGTH_BYTES, "big") + name) or not _is_whole(blob):
        return ""
    digest = binascii.b2a_base64(bytes.fromhex(sha256_hex([blob])), newline=False).decode("ascii")
    return f"SHA256:{digest.rstrip('=')}"


def _is_whole(blob: bytes) -> bool:
    """Whether `blob` is a row of length-prefixed strings, at least two, to its very end (RFC 4253, 6.6)."""
    offset, strings = 0, 0
    while offset + LENGTH_BYTES <= len(blob):
        offset += LENGTH_BYTES + int.from_bytes(blob[offset : offset + LENGTH_BYTES], "big")
        strings += 1
    return offset == len(blob) and strings > 1


def _version(path: str) -> tuple[int, int, int] | None:
    """What tells one content of `path` from the next; None when nothing is there."""
    try:
        status = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _read(path: str) -> bytes:
    """The content of a regular file of root's; InputError for anything else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(path, f"can't be opened: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != 0 or status.st_mode & 0o022:
            raise InputError(path, "is not a regular file that root alone may write")
        content = os.read(descriptor, MAX_DOCUMENT_BYTES + 1)
    except OSError as error:
        raise InputError(path, f"can't be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if not 0 < len(content) <= MAX_DOCUMENT_BYTES:
        raise InputError(path, f"is {'empty' if not content else f'longer than {MAX_DOCUMENT_BYTES} bytes'}")
    return content
