# SPDX-License-Identifier: Apache-2.0
"""Owns what the host is told of this VM's state: the aggregate status and the health observations. Runs in the
supervisor.
"""
