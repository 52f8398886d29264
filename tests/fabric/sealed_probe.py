# SPDX-License-Identifier: Apache-2.0
"""Owns what a test has the sealed compiler try, from inside: each attempt ends in a word.

Imported there before its confinement, by a mutation; called once it is under way.
"""

import os
import socket

SHADOW = "/etc/shadow"
HOST = ("168.63.129.16", 80)


def read_shadow() -> str:
    """Whether the password hashes can be read."""
    try:
        descriptor = os.open(SHADOW, os.O_RDONLY)
        return f"read {len(os.read(descriptor, 64))} bytes"
    except OSError as error:
        return f"refused: {error.strerror}"


def reach_network() -> str:
    """Whether the host's WireServer can be reached."""
    try:
        with socket.socket() as peer:
            peer.connect(HOST)
        return "connected"
    except OSError as error:
        return f"refused: {error.strerror}"


def find_others() -> str:
    """Whether another process can be seen and signalled."""
    try:
        os.kill(os.getppid() or 1, 0)
    except OSError as error:
        return f"refused: {error.strerror}"
    return f"sees {os.getppid()}"
