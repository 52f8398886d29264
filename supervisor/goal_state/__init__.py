# SPDX-License-Identifier: Apache-2.0
"""Owns which goal state is in force on this VM: fetched, chosen, written down, told. Runs in the supervisor."""
