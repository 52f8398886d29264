# SPDX-License-Identifier: Apache-2.0
"""Owns the rule in front of the WireServer as text: what nft and iptables are to be told, for a given Rule.

Pure: nothing is read, run or looked up here. Used by the committer that loads the rule and by whoever shows it.
"""

# Our nftables table, in the families ip and bridge.
TABLE = "agent_supervisor"
# In the names of all our chains of iptables and ebtables, and in no others.
MARK = "AGENT-SUPERVISOR"
# TCP ports of the address that only the supervisor may exchange packets with; 53 stays open to all.
PORTS = (80, 32526)
# A loopback address on which every TCP port is guarded as those are: who reaches it shows whether the rule is in force.
# The committer listens there, at this port and no other: one that only root can take, and that policy lets the
# supervisor connect to.
CANARY = "127.63.129.16"
CANARY_PORT = 325
# Group of NFLOG at which the first packet (SYN) of whoever is refused, or in mode observe would be, can be heard: ten a
# second, LOG_BYTES of each (IPv4 and TCP header), with one of these prefixes.
LOG_GROUP = 163
LOG_BYTES = 124
REFUSED_PREFIX = "agent-supervisor refused"
FORWARDED_PREFIX = "agent-supervisor forwarded"
