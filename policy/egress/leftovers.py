# SPDX-License-Identifier: Apache-2.0
"""Owns what another agent left in front of the WireServer: its nft table, its rules in iptables' table security.

Pure. Sources: devices.md 6.1 to 6.3. Only what has exactly its form is taken for its own.
"""

import re

# Its nft table: family and name.
TABLE = ("ip", "walinuxagent")
# Arguments of iptables that list the chain its rules are in.
LIST = ("-w", "-t", "security", "-S", "OUTPUT")
# DNS for all; whatever its own uid sends; new connections of the rest dropped; by versions up to 2.2.25, accepted.
_FORMS = (
    r"-p tcp (-m tcp )?--dport 53 -j ACCEPT",
    r"-p tcp -m owner --uid-owner \d+ -j ACCEPT",
    r"-p tcp -m conntrack --ctstate INVALID,NEW -j (DROP|ACCEPT)",
)


def removals(listing: str, address: str) -> tuple[tuple[str, ...], ...]:
    """Arguments of iptables that delete, one by one, its rules about `address`; `listing` is what LIST printed."""
    form = re.compile(rf"-A OUTPUT -d {re.escape(address)}(/32)? ({'|'.join(_FORMS)})")
    found = (line.strip() for line in listing.splitlines() if form.fullmatch(line.strip()))
    return tuple(("-w", "-t", "security", "-D", *line.split()[1:]) for line in found)
