# SPDX-License-Identifier: Apache-2.0
"""Owns the change of uid, gid and groups, for good; runs in the child being confined; looks nothing up by name."""

import os

from ipc.errors import ConfinementError
from supervisor.jail import capabilities


def take(uid: int, gid: int, keep: frozenset[str]) -> None:
    """Real, effective and saved ids become `uid` and `gid`, without any other group.

    The capabilities `keep` (and setpcap, until capabilities.limit_to) stay effective over the change, no others."""
    capabilities.survive_uid_change()
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    capabilities.hold(keep)
    now = (os.getresuid(), os.getresgid(), os.getgroups())
    if now != ((uid,) * 3, (gid,) * 3, []):
        raise ConfinementError("identity", f"asked for {uid}:{gid}, have {now}")
