# SPDX-License-Identifier: Apache-2.0
"""Owns the messages that every worker knows: its beginning, its end, and the refusal of its input."""

from ipc.messages.base import Message, Short


class WorkerReady(Message, frozen=True):
    """Worker to supervisor, first message: confined, connected, waiting for work. Believed only after verification."""


class Stop(Message, frozen=True):
    """Supervisor to worker: end now; nothing more is wanted."""


class Ping(Message, frozen=True):
    """Supervisor to a resident worker: answer with the same number within the policy's liveness time."""

    number: int


class Pong(Message, frozen=True):
    """Answer to `Ping`."""

    number: int


class InputRefused(Message, frozen=True):
    """Worker to supervisor: the bytes handed over are unusable. `where` names element, block or line."""

    where: Short
    problem: Short
