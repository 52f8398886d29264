# SPDX-License-Identifier: Apache-2.0
"""Owns the events that the host is told: the agent's own, and those that extensions leave. Runs in the supervisor."""
