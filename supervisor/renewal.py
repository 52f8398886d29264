# SPDX-License-Identifier: Apache-2.0
"""Owns the question whether this process makes room for a fresh one when provisioning is over. Runs in the supervisor.

A password that was read, a hash and custom data stay in freed memory until it is used again; a new process has none.
"""

from supervisor.provisioning import Provisioning

# A trouble that has nothing to do with provisioning: the fresh process finds it again.
NOT_OWED = frozenset({"secure channel"})


def is_due(provisioning: Provisioning) -> bool:
    """Whether this process has read secrets and nothing more is owed of what it did with them.

    A provisioning that failed would be begun again by a fresh process, and what is still missing be forgotten."""
    standing = provisioning.standing
    return (
        provisioning.has_read_secrets
        and standing.outcome == "done"
        and standing.ready
        and not standing.troubles.keys() - NOT_OWED
    )
