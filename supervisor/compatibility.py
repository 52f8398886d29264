# SPDX-License-Identifier: Apache-2.0
"""Owns what the host is told this agent is: in headers, status, telemetry (docs/decisions/0020). Constants, for every
process that speaks to the host.
"""

from supervisor.version import VERSION

# The platform recognises an agent by name and version and switches features on by them: extension classes, status
# fields and update modes are not offered to a name or version that it doesn't know. They say what we are compatible
# with, not who we are.
AGENT_NAME = "WALinuxAgent"
AGENT_VERSION = "2.15.0.1"
# Who we are, wherever the host takes free text.
OWN_NAME = f"agent-supervisor {VERSION}"
