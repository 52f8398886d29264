# SPDX-License-Identifier: Apache-2.0
"""Somebody who wants something of the WireServer: `python -m tests.egress.attempt WAY NAME` tries both of its ports.

WAY is "once"; "mapped", the same through IPv6; "hold": tries to connect until it can, prints "held", asks when a line
comes; "again": asks until its input ends. The last two print "begun" first. Prints what came of it, one line a port.
"""

import contextlib
import os
import select
import socket
import sys

ADDRESS, PORTS = "168.63.129.16", (80, 32526)
PATIENCE_S = 0.4
PAUSE_S = 0.002


def connected(port: int, *, mapped: bool = False) -> socket.socket:
    """OSError when it is refused."""
    family, place = (socket.AF_INET6, f"::ffff:{ADDRESS}") if mapped else (socket.AF_INET, ADDRESS)
    made = socket.socket(family, socket.SOCK_STREAM)
    made.settimeout(PATIENCE_S)
    try:
        made.connect((place, port))
    except OSError:
        made.close()
        raise
    return made


def ask(made: socket.socket, name: str) -> str:
    """What the host answers; OSError."""
    with made:
        made.sendall(f"GET /?attempt={name} HTTP/1.1\r\nHost: {ADDRESS}\r\n\r\n".encode())
        return "REACHED" if made.recv(100) else "closed"


def once(name: str, port: int, *, mapped: bool = False) -> str:
    """What came of one attempt."""
    try:
        return ask(connected(port, mapped=mapped), name)
    except OSError as error:
        return type(error).__name__


def hold(name: str) -> list[str]:
    """Connections that are used later. "unheld": a line came before there was one."""
    held = []
    os.write(1, b"begun\n")
    for port in PORTS:
        with contextlib.suppress(OSError):
            held.append(grabbed(port))
    if len(held) < len(PORTS):
        return ["unheld"]
    os.write(1, b"held\n")
    sys.stdin.readline()
    outcomes = []
    for made in held:
        try:
            outcomes.append(ask(made, name))
        except OSError as error:
            outcomes.append(type(error).__name__)
    return outcomes


def grabbed(port: int) -> socket.socket:
    """As soon as it can be had; OSError when a line comes before that."""
    while True:
        try:
            return connected(port)
        except OSError:
            if select.select([0], [], [], PAUSE_S)[0]:
                raise


def again(name: str) -> list[str]:
    """Until somebody closes our input."""
    outcomes = []
    os.write(1, b"begun\n")
    while not select.select([0], [], [], PAUSE_S)[0]:
        outcomes += [once(name, port) for port in PORTS]
    return outcomes


def main() -> None:
    """Prints what came of it."""
    way, name = sys.argv[1:]
    if way == "hold":
        outcomes = hold(name)
    elif way == "again":
        outcomes = again(name)
    else:
        outcomes = [once(name, port, mapped=way == "mapped") for port in PORTS]
    print("\n".join(outcomes))


if __name__ == "__main__":
    main()
