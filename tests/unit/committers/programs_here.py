# SPDX-License-Identifier: Apache-2.0
"""Gives committers in tests the programs of this machine, run by the companions' own code, in the same process."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from ipc.messages import Committed, Message
from policy.load import own_folder
from policy.reading import read_policy
from policy.sources import read_sources
from workers.committers import commit
from workers.committers.commit import Act
from workers.committers.tools import PATIENCE_S, Tools
from workers.programs.main import Programs
from workers.programs.runner import FOLDERS

__all__ = ["FOLDERS", "perform", "tools_in"]


@cache
def names() -> frozenset[str]:
    """Every program that some companion may run."""
    profiles, _ = read_policy(read_sources(own_folder()))
    return frozenset(program.name for profile in profiles for program in profile.runs)


def tools_in(folders: Iterable[str] = FOLDERS, patience_s: float = PATIENCE_S) -> Tools:
    """The programs in `folders` of which policy lets anybody run any."""
    return Tools(Programs(names(), folders).answer, patience_s)


def perform(act: Act, request: Message, root: Path = Path("/"), tools: Tools | None = None) -> Committed:
    """As the committers' own; without `tools`, those of this machine."""
    return commit.perform(act, request, root, tools or tools_in())
