# SPDX-License-Identifier: Apache-2.0
"""Owns the version number: a constant, because asking the package's metadata would load half of `email`."""

VERSION = "0.1.0"
