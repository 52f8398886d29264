# SPDX-License-Identifier: Apache-2.0
"""Owns the inside probe: whether a socket such as our client's passes the rule. Runs in the supervisor.

It connects to the canary, which this machine itself listens at: no answer of the host's is needed, or can mislead it.
"""

import errno
import socket

from supervisor.loop import Loop, TimedOut
from supervisor.wire.stream import Address, Stream

# The rule's answer comes at once, either way; this is for a machine with other work.
PATIENCE_S = 2.0
# What a rule can do to a connection, but for silence. Anything else is the state of this machine: no port, no memory.
STOPPED = {errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.ETIMEDOUT}


async def why_stopped(loop: Loop, unconnected: socket.socket, canary: Address) -> str:
    """Why `unconnected`, closed afterwards, can't be connected to `canary`; empty when it can. Another OSError tells
    nothing of the rule."""
    stream = Stream(loop, unconnected)
    try:
        await stream.connect(canary, PATIENCE_S)
    except TimedOut:
        return f"gets no answer within {PATIENCE_S:g} s"
    except OSError as error:
        if error.errno not in STOPPED:
            raise
        return (error.strerror or type(error).__name__).lower()
    finally:
        stream.reset()
    return ""
