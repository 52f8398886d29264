# SPDX-License-Identifier: Apache-2.0
"""The worker that makes sockets under the uid by which the rule in front of the WireServer knows them; nothing else."""
