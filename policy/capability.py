# SPDX-License-Identifier: Apache-2.0
"""Owns the kernel's capability numbers by name (capability(7)); data only, read by whoever shows or compares masks."""

from collections.abc import Iterable

NAMES = (
    "chown", "dac_override", "dac_read_search", "fowner", "fsetid", "kill", "setgid", "setuid", "setpcap",
    "linux_immutable", "net_bind_service", "net_broadcast", "net_admin", "net_raw", "ipc_lock", "ipc_owner",
    "sys_module", "sys_rawio", "sys_chroot", "sys_ptrace", "sys_pacct", "sys_admin", "sys_boot", "sys_nice",
    "sys_resource", "sys_time", "sys_tty_config", "mknod", "lease", "audit_write", "audit_control", "setfcap",
    "mac_override", "mac_admin", "syslog", "wake_alarm", "block_suspend", "audit_read", "perfmon", "bpf",
    "checkpoint_restore",
)  # fmt: skip


def mask(names: Iterable[str]) -> int:
    """The bit mask of `names`, as /proc/PID/status shows it; ValueError for an unknown name."""
    return sum(1 << NAMES.index(name) for name in names)


def names(bits: int) -> tuple[str, ...]:
    """The names of the bits that are set, unknown ones as `cap_N`."""
    return tuple(
        NAMES[bit] if bit < len(NAMES) else f"cap_{bit}" for bit in range(bits.bit_length()) if bits >> bit & 1
    )
