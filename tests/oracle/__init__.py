# SPDX-License-Identifier: Apache-2.0
"""The distribution's own agent against the emulated host: what it is believed for, and what ours is compared with."""
