# SPDX-License-Identifier: Apache-2.0
"""Tests of the source itself: sizes, headers, words, imports."""
