# SPDX-License-Identifier: Apache-2.0
"""Somebody who is not the supervisor: `python -m tests.egress.outsider WAY ADDRESS PORT` prints what came of it.

WAY is "now" (one request), "mapped" (the same over IPv6), or "hold": connects, asks for an answer later, prints "held",
and what came once there is a line on its standard input; or "listen": takes that port of all addresses until then;
or "fragment": the later part of a TCP packet, as only a raw socket sends it.
"""

import os
import socket
import struct
import sys

PATIENCE_S = 0.5


def main() -> None:
    """Prints one line, with "hold" two."""
    way, address, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
    if way == "listen":
        with socket.create_server((address, port)):
            print("listening", flush=True)
            sys.stdin.readline()
        return
    if way == "fragment":
        print(_part(address))
        return
    family, place = (socket.AF_INET6, f"::ffff:{address}") if way == "mapped" else (socket.AF_INET, address)
    with socket.socket(family, socket.SOCK_STREAM) as made:
        made.settimeout(PATIENCE_S)
        try:
            made.connect((place, port))
            made.sendall(b"later\n" if way == "hold" else way.encode() + b"\n" if way == "go" else b"now\n")
            if way == "hold":
                os.write(1, f"held {made.getsockname()[1]}\n".encode())
                sys.stdin.readline()
            print(made.recv(100).decode() or "closed")
        except OSError as error:
            print(type(error).__name__)


def _part(address: str) -> str:
    """The later part of a TCP packet of which there is no first."""
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 44, 1, 1, 64, 6, 0, bytes(4), socket.inet_aton(address))
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        try:
            raw.sendto(header + bytes(24), (address, 0))
        except PermissionError:
            return "dropped"
    return "sent"


if __name__ == "__main__":
    main()
