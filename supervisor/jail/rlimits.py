# SPDX-License-Identifier: Apache-2.0
"""Owns resource limits, the second line behind the cgroup; runs in the child being confined; only ever lowers."""

import resource

from policy.profile import Limits


def lower(limits: Limits) -> None:
    """Files, file size and processes as in `limits`; no core file, no locked memory, no message queue.

    Processes count per uid and are not counted for uid 0: there the cgroup's limit stands alone."""
    _lower(resource.RLIMIT_NOFILE, limits.open_files)
    _lower(resource.RLIMIT_FSIZE, limits.file_size_mib << 20)
    _lower(resource.RLIMIT_NPROC, limits.pids)
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_MEMLOCK, 0)
    _lower(resource.RLIMIT_MSGQUEUE, 0)


def _lower(kind: int, wanted: int) -> None:
    hard = resource.getrlimit(kind)[1]
    value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(kind, (value, value))
