# SPDX-License-Identifier: Apache-2.0
"""The rule in front of the WireServer, as the supervisor keeps it."""
