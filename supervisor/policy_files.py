# SPDX-License-Identifier: Apache-2.0
"""Owns where overrides, their signature and its anchors are on disk, and reads them as bytes, which it never parses.

Runs in the spawner, before anything else is started, and in the command line. It follows no link, and takes only what
belongs to root and nobody else may write.
"""

import contextlib
import os
import stat
from collections.abc import Iterator

import msgspec

from ipc.errors import ConfigError
from policy.material import WORD, Anchors, Material
from policy.profile import CompiledPolicy
from policy.sources import read_sources

MAX_FILE_BYTES = 64 << 10
MAX_FILES = 64
MAX_CONFIG_BYTES = 1 << 20
SIGNATURE = "policy.sig"
KEYS = "policy-keys"
REQUIREMENT = "policy-signature-required"
MIN_LEVEL = b"Policy.MinLevel"


class Places(msgspec.Struct, frozen=True):
    """Folders that may hold anchors (`policy-keys/*.pem`, `policy-signature-required`), the overrides, the kernel's
    command line. `strict`: files have to be root's (on the machine itself, not where an image is made)."""

    overrides: str = "/etc/agent-supervisor/policy.d"
    local: str = "/etc/agent-supervisor"
    fixed: str = "/usr/lib/agent-supervisor"
    command_line: str = "/proc/cmdline"
    strict: bool = True


def config_bytes(path: str) -> bytes:
    """The configuration file's content; empty when it can't be read, which the supervisor meets and tells again."""
    try:
        with _opened(path, os.O_RDONLY) as descriptor:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                return _read(descriptor, MAX_CONFIG_BYTES, path)
    except (OSError, ConfigError):
        pass
    return b""


def is_as_shipped(places: Places, config: bytes) -> bool:
    """Whether nothing on this machine says anything about the policy, so that the prebuilt one is in force."""
    try:
        names = os.listdir(places.overrides)
    except FileNotFoundError:
        names = []
    except OSError as error:
        raise ConfigError(places.overrides, f"can't be listed: {error.strerror}") from None
    return not (
        any(name == SIGNATURE or _is_override(name) for name in names)
        or any(os.path.lexists(f"{folder}/{REQUIREMENT}") for folder in (places.fixed, places.local))
        or WORD in _command_line(places)
        # A line that is a comment to supervisor.config as well; all others are for it to understand.
        or any(MIN_LEVEL in line for line in config.split(b"\n") if not line.startswith(b"#"))
    )


def gathered(places: Places, shipped: str, config_path: str = "", config: bytes = b"") -> Material:
    """Everything for the sealed compiler; `shipped` is the folder of the shipped policy's sources.

    ConfigError for a file that may not be used: a link, somebody else's, too large, one too many."""
    found = _folder(places.overrides, strict=places.strict)
    overrides = {name: content for name, content in found.items() if _is_override(name)}
    return Material(
        read_sources(shipped),
        overrides,
        found.get(SIGNATURE, b""),
        config,
        config_path,
        _anchors(places.fixed, places),
        _anchors(places.local, places),
        _command_line(places),
    )


def refuse_links(policy: CompiledPolicy) -> None:
    """ConfigError for a granted path that is a link, or lies behind one: by its name it is a part of a shipped one, and
    whoever judged it so sees no file system. Nothing is refused where overrides may loosen."""
    for path in () if policy.origin.may_loosen else policy.origin.granted:
        real = os.path.realpath(path)
        if real != path:
            raise ConfigError("policy.d", f"grant.paths: {path} is a link to {real}: name that")


def _is_override(name: str) -> bool:
    return name.endswith(".toml") and not name.startswith(".")


def _anchors(folder: str, places: Places) -> Anchors:
    keys = {
        name: pem for name, pem in _folder(f"{folder}/{KEYS}", strict=places.strict).items() if name.endswith(".pem")
    }
    # That it is there is all that it says, whatever it is.
    return Anchors(keys, os.path.lexists(f"{folder}/{REQUIREMENT}"))


def _command_line(places: Places) -> bytes:
    with _opened(places.command_line, os.O_RDONLY) as descriptor:
        return _read(descriptor, MAX_FILE_BYTES, places.command_line)


def _folder(path: str, *, strict: bool) -> dict[str, bytes]:
    """Every file of ours in the folder by its name; empty when there is no such folder."""
    try:
        above = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(os.path.dirname(path), f"can't be opened: {error.strerror}") from None
    try:
        _judge(above, os.path.dirname(path), strict=strict)
        with _opened(os.path.basename(path), os.O_RDONLY | os.O_DIRECTORY, above) as folder:
            _judge(folder, path, strict=strict)
            names = sorted(name for name in os.listdir(folder) if name.endswith((".toml", ".pem", ".sig")))
            odd = [name for name in names if not name.isprintable()]
            if odd:
                raise ConfigError(path, f"has a file with an unprintable name: {odd[0]!r}")
            if len(names) > MAX_FILES:
                raise ConfigError(path, f"has {len(names)} files, at most {MAX_FILES} are read")
            return {name: _file(folder, path, name, strict=strict) for name in names if not name.startswith(".")}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(path, f"can't be read: {error.strerror}") from None
    finally:
        os.close(above)


def _file(folder: int, folder_name: str, name: str, *, strict: bool) -> bytes:
    path = f"{folder_name}/{name}"
    try:
        with _opened(name, os.O_RDONLY, folder) as descriptor:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ConfigError(path, "is not a regular file")
            _judge(descriptor, path, strict=strict)
            return _read(descriptor, MAX_FILE_BYTES, path)
    except OSError as error:
        raise ConfigError(path, f"can't be opened, links are not followed: {error.strerror}") from None


def _judge(descriptor: int, path: str, *, strict: bool) -> None:
    status = os.fstat(descriptor)
    if strict and (status.st_uid != 0 or status.st_mode & 0o022):
        mode = stat.S_IMODE(status.st_mode)
        raise ConfigError(
            path, f"belongs to uid {status.st_uid} with mode {mode:04o}: it has to be root's alone to write"
        )


@contextlib.contextmanager
def _opened(path: str, flags: int, folder: int | None = None) -> Iterator[int]:
    """Not blocking: a FIFO in a file's place must not hold the start up."""
    nofollow = os.O_NOFOLLOW if folder is not None else 0
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK | nofollow, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _read(descriptor: int, limit: int, path: str) -> bytes:
    content = bytearray()
    while piece := os.read(descriptor, limit + 1 - len(content)):
        content += piece
        if len(content) > limit:
            raise ConfigError(path, f"is larger than {limit} bytes")
    return bytes(content)
