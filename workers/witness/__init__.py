# SPDX-License-Identifier: Apache-2.0
"""The witness: tells which process a socket belongs to."""
