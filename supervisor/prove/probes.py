# SPDX-License-Identifier: Apache-2.0
"""Owns the table of all probes, by the names that the catalogue gives them; runs in the attacking process."""

from supervisor.prove import probes_channel, probes_files, probes_kernel, probes_processes
from supervisor.prove.attempt import Probe

PROBES: dict[str, Probe] = {**probes_files.PROBES, **probes_processes.PROBES, **probes_kernel.PROBES}
# Those have the worker's own channel in their hands, and what becomes of them is told by its other end.
THROUGH_THE_CHANNEL: dict[str, Probe] = probes_channel.PROBES
BEFORE_IT_IS_READY = probes_channel.BEFORE_IT_IS_READY
ALL = frozenset({*PROBES, *THROUGH_THE_CHANNEL})
