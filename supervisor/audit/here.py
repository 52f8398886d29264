# SPDX-License-Identifier: Apache-2.0
"""Owns what only this machine knows of a policy: the folders that settings and systemd name.

Runs in the command. It reads the spawner's environment, and nothing of the supervisor's own.
"""

import os
import sys

import msgspec

from policy.placeholders import LIB, NOTIFY, expand
from supervisor import options
from supervisor.audit import proc
from supervisor.audit.expected import Expected
from supervisor.config import Config

# What it has of the machine with all that is mounted in it, as accounts' homes.
_WHOLE = ("/dev", "/etc", "/proc", "/sys", "/usr")
_NOTIFY_SOCKET = "NOTIFY_SOCKET="


def supervisor(expected: Expected, config: Config) -> Expected:
    """`expected` with its paths as they are here, and with all that its mounts may lead to."""
    words = proc.words(expected.spawner, "environ")
    notify = next((word.removeprefix(_NOTIFY_SOCKET) for word in words if word.startswith(_NOTIFY_SOCKET)), "")
    places = {LIB: (config[options.LIB_DIR],), NOTIFY: (notify,) if notify.startswith("/") else ()}
    paths = expand(expected.profile.paths, places, expected.source)
    profile = msgspec.structs.replace(expected.profile, paths=paths)
    home = os.path.realpath(config[options.HOME_DIR])
    named = (home, config[options.SSH_DIR], config[options.PROVISIONING_MEDIA], *sys.path)
    return msgspec.structs.replace(
        expected,
        compiled=msgspec.structs.replace(expected.compiled, profile=profile),
        leads=(*named, *(grant.path for grant in paths)),
        whole=(*_WHOLE, home),
    )


def worker(expected: Expected, config: Config) -> Expected:
    """`expected` with the folder of Lib.Dir in its paths."""
    paths = expand(expected.profile.paths, {LIB: (config[options.LIB_DIR],)}, expected.source)
    profile = msgspec.structs.replace(expected.profile, paths=paths)
    return msgspec.structs.replace(expected, compiled=msgspec.structs.replace(expected.compiled, profile=profile))
