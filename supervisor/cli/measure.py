# SPDX-License-Identifier: Apache-2.0
"""Owns what `ps` itself measures of the agent's processes: memory and processor time, as far as it may read them."""

import msgspec
import psutil

from supervisor.kernel_view import status_fields


class Usage(msgspec.Struct, frozen=True):
    """Of one process: bytes resident, bytes in proportion to sharing, processor seconds; None where not readable."""

    rss_bytes: int | None = None
    pss_bytes: int | None = None
    cpu_s: float | None = None


def usage(pid: int) -> Usage:
    """What can be read of process `pid` now; all None when it is gone (or `pid` is 0: none)."""
    if pid <= 0:
        return Usage()
    try:
        process = psutil.Process(pid)
        times = process.cpu_times()
        rss = process.memory_info().rss
    except psutil.Error:
        return Usage()
    try:
        pss: int | None = process.memory_full_info().pss
    except (psutil.Error, OSError):
        pss = None
    return Usage(rss, pss, times.user + times.system)


def status_of(pid: int) -> dict[str, str]:
    """The fields of /proc/PID/status; none when it is gone."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
            return status_fields(file.read())
    except OSError:
        return {}
