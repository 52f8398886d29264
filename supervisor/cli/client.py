# SPDX-License-Identifier: Apache-2.0
"""Owns the commands' side of the control socket: one request, one answer, then it is closed."""

import argparse
import socket
import time

import msgspec

from supervisor.layout import Layout
from supervisor.verbs import MAX_ANSWER_BYTES, Answer, Verb, pack

PATIENCE_S = 5.0
# A socket on which nobody listens, or who hung up, may be an agent's whose supervisor is just being started again.
AGAIN_S, BETWEEN_S = 1.0, 0.02
# No socket, or one that a killed agent left behind.
NOT_RUNNING = (FileNotFoundError, ConnectionRefusedError)


def add_socket_option(parser: argparse.ArgumentParser) -> None:
    """`--socket`: where the agent listens."""
    parser.add_argument(
        "--socket",
        metavar="PATH",
        default=Layout().control_socket,
        help="the agent's control socket (default: %(default)s)",
    )


def ask(path: str, verb: Verb, argument: str = "") -> Answer:
    """The agent's answer, status "ok".

    FileNotFoundError or ConnectionRefusedError: it does not run. PermissionError: it, or the socket's mode, says no.
    Another OSError or ValueError: no usable answer came."""
    packet = _patiently(path, pack(verb, argument), AGAIN_S if verb.right == "read" else 0)
    # DecodeError is a ValueError.
    answer = msgspec.json.decode(packet, type=Answer)
    if answer.status == "refused":
        raise PermissionError(answer.text)
    if answer.status != "ok":
        raise ValueError(answer.text)
    return answer


def _patiently(path: str, record: bytes, patience_s: float) -> bytes:
    ends = time.monotonic() + patience_s
    while True:
        try:
            return _exchange(path, record)
        except ConnectionError:
            if time.monotonic() >= ends:
                raise
        time.sleep(BETWEEN_S)


def _exchange(path: str, record: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(PATIENCE_S)
        connection.connect(path)
        connection.send(record, socket.MSG_NOSIGNAL)
        packet = connection.recv(MAX_ANSWER_BYTES + 1)
    if not packet:
        raise ConnectionError("it closed the connection without an answer")
    return packet


def why_silent(error: OSError | ValueError) -> str:
    """What an error of `ask` means, for people."""
    if isinstance(error, NOT_RUNNING):
        return "the agent is not running"
    if isinstance(error, PermissionError):
        return "no permission to ask the agent: be root or in the group of Control.Group"
    return f"the agent gave no usable answer: {error}"
