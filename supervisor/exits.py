# SPDX-License-Identifier: Apache-2.0
"""Owns the exit statuses that one process of ours understands of another (sysexits(3) where it has a number)."""

# A worker's own bug; its stack is in the log.
EXIT_BUG = 70
# A step of the confinement failed: nothing of the worker ran.
EXIT_CONFINEMENT = 71
# Settings or state that can't be used: starting again mends nothing, so neither spawner nor systemd tries.
EXIT_CONFIG = 78
