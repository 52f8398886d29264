# SPDX-License-Identifier: Apache-2.0
"""The vault: one-shot sealed children that handle key material for the supervisor."""
