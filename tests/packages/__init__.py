# SPDX-License-Identifier: Apache-2.0
"""Handlers' packages, through the real workers: unpacked, verified, placed, carried over, removed."""
