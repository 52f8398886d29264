# SPDX-License-Identifier: Apache-2.0
"""The rule in front of the WireServer: who gets through, who is refused, who puts it back."""
