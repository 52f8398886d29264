# SPDX-License-Identifier: Apache-2.0
"""VM extensions: what is wanted of which handler, in which order, and how it ended. Runs in the supervisor."""
