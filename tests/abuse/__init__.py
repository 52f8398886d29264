# SPDX-License-Identifier: Apache-2.0
"""Attacks against the whole: a parser that its input has taken over, in its real confinement, against the real fleet."""
