# SPDX-License-Identifier: Apache-2.0
"""Attacks against the whole: a parser taken over by its input, in its real confinement, against the real fleet."""
