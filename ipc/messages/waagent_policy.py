# SPDX-License-Identifier: Apache-2.0
"""Owns how the supervisor gets waagent's policy file, which lies where it can open nothing (extensions.md 4.1)."""

from ipc.messages.base import Message, Short

MOST_POLICY_BYTES = 1 << 20


class ReadWaagentPolicy(Message, frozen=True):
    """To the worker whose view holds that file, if there is one."""


class WaagentPolicyRead(Message, frozen=True):
    """The answer. One descriptor, a sealed memfd with the file's content, at most 1 MiB; empty where the file is not
    there, or there is a `problem` with it."""

    is_there: bool
    problem: Short = ""
