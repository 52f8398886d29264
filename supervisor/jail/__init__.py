# SPDX-License-Identifier: Apache-2.0
"""Confinement, one mechanism a file; runs in a child between its fork and its first message; decides no order.

Only this package touches ctypes (syscalls.py) and python-prctl (capabilities.py).
"""
