# SPDX-License-Identifier: Apache-2.0
"""The worker that copies waagent's policy file: the only one of the agent's that sees it, and it sees nothing else."""
