# SPDX-License-Identifier: Apache-2.0
"""What handlers have left to be told to the host, through the real processes."""
