# SPDX-License-Identifier: Apache-2.0
"""Owns what the supervisor's own mount tree is made of: its folders, and what its settings and systemd's name.

Runs in the supervisor at its start, as soon as the settings are read, and is unloaded then.
"""

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from ipc.errors import StateError
from policy.placeholders import LIB, NOTIFY
from policy.profile import CompiledPolicy
from supervisor import options
from supervisor.files import make_folder
from supervisor.jail.resident_tree import seal_resident
from supervisor.layout import Layout
from supervisor.log import Log
from supervisor.marker import PROVISIONED

if TYPE_CHECKING:
    from supervisor.config import Config
    from supervisor.jail.shedding import Places

# Needed once.
UNLOADED = (
    "supervisor.jail.mounts",
    "supervisor.jail.namespaces",
    "supervisor.jail.resident_tree",
    "supervisor.jail.sealed_tree",
    "supervisor.own_tree",
)
UNSEALED = (
    "this machine gives no mount namespace, so it has no mount tree of its own: modes of root's files, and the sockets "
    "of other services, are closed to it by nothing"
)


def take(
    policy: CompiledPolicy, layout: Layout, config: "Config", environment: Mapping[str, str], log: Log
) -> "tuple[Places, str]":
    """Make the folders and seal the tree. The folders that only this machine knows, by their placeholders; and why
    there is none for our state, empty if there is one.

    StateError when there is none to run in, ConfinementError for a tree that can't be sealed."""
    problem = _make_folders(layout, log)
    notify = environment.get("NOTIFY_SOCKET", "")
    # An abstract socket is in no folder.
    places = {LIB: (layout.lib,), NOTIFY: (notify,) if notify.startswith("/") else ()}
    medium = config[options.PROVISIONING_MEDIA]
    # Where accounts were made already nobody looks at homes, and a file system of theirs is not held.
    homes = [] if os.path.lexists(f"{layout.lib}/{PROVISIONED}") else [config[options.HOME_DIR]]
    looked_at = [config[options.SSH_DIR], *(path for path in sys.path if path)]
    looked_at += [medium] if medium.startswith("/") else []
    own = next(each.profile for each in policy.programs if each.profile.kind == "supervisor")
    if not seal_resident(own, places, looked_at, homes):
        log.line("WARNING", "supervisor", UNSEALED)
    return places, problem


def _make_folders(layout: Layout, log: Log) -> str:
    make_folder(layout.run, 0o755)
    make_folder(layout.channels, 0o711)
    try:
        make_folder(layout.lib, 0o700)
    except StateError as error:
        # What is to be written there will fail, and say so to the host.
        log.line("ERROR", "supervisor", str(error))
    try:
        make_folder(layout.state, 0o700)
    except StateError as error:
        return str(error)
    return ""
