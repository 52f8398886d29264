# SPDX-License-Identifier: Apache-2.0
"""The numbers: `python -m tests.bench` measures them and prints one table."""
