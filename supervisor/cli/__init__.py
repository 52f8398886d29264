# SPDX-License-Identifier: Apache-2.0
"""The commands that talk to a running agent: processes of their own, one file a command. Never imported by it."""
