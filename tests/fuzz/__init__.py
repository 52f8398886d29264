# SPDX-License-Identifier: Apache-2.0
"""Mutation fuzzers of the readers: seeded, so that input N of a format is the same everywhere; see `__main__`."""
