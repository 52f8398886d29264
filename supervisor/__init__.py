# SPDX-License-Identifier: Apache-2.0
"""The privileged side: supervisor, spawner, jail, and the commands that talk to them. Never imports workers."""
