# SPDX-License-Identifier: Apache-2.0
"""Companions: run the distribution's programs for one committer, each in a confinement of its own; parse nothing."""
