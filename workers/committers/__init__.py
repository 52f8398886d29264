# SPDX-License-Identifier: Apache-2.0
"""Committers: one-shot root processes that carry out one validated request each, and compare the result with it."""
