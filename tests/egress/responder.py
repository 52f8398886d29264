# SPDX-License-Identifier: Apache-2.0
"""The host behind the rule: answers "here" to "now" on 80, 32526 and 53; to "later", once somebody said "go" on 53.

Runs as `python -m tests.egress.responder` in a network namespace of its own within a lab.
"""

import os
import selectors
import socket

ADDRESS = "168.63.129.16"
PORTS = (80, 32526, 53)


def main() -> None:
    """Until it is killed."""
    waiting = selectors.DefaultSelector()
    for port in PORTS:
        waiting.register(socket.create_server((ADDRESS, port)), selectors.EVENT_READ, "listening")
    late: list[socket.socket] = []
    os.write(1, b"ready\n")
    while True:
        for key, _ in waiting.select():
            one: socket.socket = key.fileobj  # type: ignore[assignment]
            if key.data == "listening":
                waiting.register(one.accept()[0], selectors.EVENT_READ, "")
            elif not _answered(one, late):
                waiting.unregister(one)
                one.close()


def _answered(one: socket.socket, late: list[socket.socket]) -> bool:
    try:
        text = one.recv(100)
        if text == b"now\n":
            one.sendall(b"here")
        elif text == b"later\n":
            late.append(one)
        elif text == b"go\n":
            for each in late:
                each.sendall(b"late")
            late.clear()
            one.sendall(b"gone")
    except OSError:
        return False
    return bool(text)


if __name__ == "__main__":
    main()
