# SPDX-License-Identifier: Apache-2.0
"""Least by experiment: each grant of each policy taken away alone, and the job that fails for it."""
