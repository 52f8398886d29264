# SPDX-License-Identifier: Apache-2.0
"""Owns the frame around one commit: where it works, what it wrote, how success and failure are told.

Runs in committers, as root, after confinement. A failure always says whether something was changed.
"""

import os
import stat
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ipc.channel import Channel
from ipc.descriptors import close_all
from ipc.errors import CommitError
from ipc.messages import Aside, Committed, FileChange, HostKey, Message
from workers.committers.shortage import shortage
from workers.committers.tools import Tools
from workers.runtime import Answer, serve_once


class Workplace:
    """One commit's surroundings: the file tree below `root`, the programs in `tools`, and the list of paths written.

    `host_keys` and `aside` are for the one committer each that answers with them."""

    def __init__(self, root: Path, tools: Tools | None) -> None:
        self.root = root
        self._tools = tools
        self.host_keys: tuple[HostKey, ...] = ()
        self.aside: tuple[Aside, ...] = ()
        self._written: dict[str, None] = {}

    def at(self, path: str) -> Path:
        """Where the absolute `path` of a request lies below this root."""
        return self.root / path.lstrip("/")

    def wrote(self, *paths: str) -> None:
        """Say, as soon as it is true, that these absolute paths were changed."""
        self._written.update(dict.fromkeys(paths))

    @property
    def tools(self) -> Tools:
        """The programs. LookupError for a kind without a companion: a bug."""
        if self._tools is None:
            raise LookupError("this kind of committer has nobody to run programs for it")
        return self._tools

    @property
    def written(self) -> tuple[str, ...]:
        return tuple(self._written)

    @property
    def touched(self) -> bool:
        return bool(self._written)

    def changes(self) -> tuple[FileChange, ...]:
        """What was written, as the kernel shows it now."""
        return tuple(self._change(path) for path in self._written)

    def _change(self, path: str) -> FileChange:
        status = os.lstat(self.at(path))
        return FileChange(path, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)


Act = Callable[[Any, Workplace], str]


def perform(act: Act, request: Message, root: Path = Path("/"), tools: Tools | None = None) -> Committed:
    """Run `act`, which answers with the fact for the log. CommitError tells rightly whether anything was changed;
    ChannelClosed means that the companion, and with it this process, is at its end."""
    work = Workplace(root, tools)
    try:
        fact = act(request, work)
        return Committed(work.changes(), fact[:1024], work.host_keys, work.aside)
    except CommitError as error:
        changed = error.changed or work.touched
        raise CommitError(error.problem + shortage(root), changed=changed, paths=work.written) from error
    except OSError as error:
        place = f"{error.filename}: " if isinstance(error.filename, str) else ""
        problem = f"{place}{error.strerror or error}{shortage(root)}"
        raise CommitError(problem, changed=work.touched, paths=work.written) from error


def serve(
    channel: Channel, lock: Callable[[], None], acts: Mapping[type[Message], Act], tools: Tools | None = None
) -> None:
    """A committer's whole life: one request of one of the types in `acts`, one answer."""
    serve_once(channel, lock, {kind: partial(_on_request, act, tools) for kind, act in acts.items()})


def _on_request(act: Act, tools: Tools | None, request: Message, descriptors: tuple[int, ...]) -> Iterable[Answer]:
    close_all(descriptors)
    yield perform(act, request, tools=tools)
