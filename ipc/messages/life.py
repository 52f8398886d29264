# SPDX-License-Identifier: Apache-2.0
"""Owns the messages that every worker knows: its beginning, its end, and the refusal of its input."""

from ipc.messages.base import Message, Short


class WorkerReady(Message, frozen=True):
    """Worker to supervisor, first message: confined, connected, waiting for work. Believed only after verification."""


class InputRefused(Message, frozen=True):
    """Worker to supervisor: the bytes handed over are unusable. `where` names element, block or line."""

    where: Short
    problem: Short
