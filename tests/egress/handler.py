# SPDX-License-Identifier: Apache-2.0
"""A vendor's process: `python -m tests.egress.handler WAY` sends what it reads to the WireServer, prints what comes.

WAY is "once"; "mapped", the same through IPv6; "listener ADDRESS PORT", the same at another place; "slowly", byte by
byte, one a second; "crowd N": N connections that send nothing, until it is ended.
"""

import socket
import sys
import time

ADDRESS, PORT = "168.63.129.16", 80
PATIENCE_S = 30.0
PAUSE_S = 1.0


def connected(address: str = ADDRESS, port: int = PORT) -> socket.socket:
    """OSError when it is refused."""
    return socket.create_connection((address, port), PATIENCE_S)


def heard(made: socket.socket) -> bytes:
    """All that comes, until the other end says goodbye."""
    pieces = []
    while piece := made.recv(65536):
        pieces.append(piece)
    return b"".join(pieces)


def send_slowly(made: socket.socket, content: bytes) -> None:
    """Until nobody listens any more."""
    made.settimeout(PAUSE_S)
    for place in range(len(content)):
        made.send(content[place : place + 1])
        try:
            made.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            continue
        break
    made.settimeout(PATIENCE_S)


def crowd(number: int) -> None:
    """As many as there is room for, all at once."""
    held = [socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) for _ in range(number)]
    for each in held:
        each.connect_ex((ADDRESS, PORT))
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    sys.stdin.buffer.read()


def main() -> None:
    """Prints how long it took, then the answer or the name of the error."""
    way, *rest = sys.argv[1:]
    if way == "crowd":
        crowd(int(rest[0]))
        return
    content = sys.stdin.buffer.read()
    began = time.monotonic()
    try:
        place = ("::ffff:" + ADDRESS,) if way == "mapped" else (rest[0], int(rest[1])) if way == "listener" else ()
        with connected(*place) as made:
            if way == "slowly":
                send_slowly(made, content)
            else:
                made.sendall(content)
            answer = heard(made)
    except OSError as error:
        answer = type(error).__name__.encode()
    sys.stdout.buffer.write(b"%.1f\n" % (time.monotonic() - began) + answer)


if __name__ == "__main__":
    main()
