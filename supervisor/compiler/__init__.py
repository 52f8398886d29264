# SPDX-License-Identifier: Apache-2.0
"""The sealed compiler of policies: the only process that reads the text of overrides, with nothing to lose."""
