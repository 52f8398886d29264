# SPDX-License-Identifier: Apache-2.0
"""Owns the messages of the one-shots that stand apart: the verifier and the vault."""

from typing import Annotated

import msgspec

from ipc.messages.base import Message, Name, Short
from ipc.secret import Secret


class VerifyWorker(Message, frozen=True):
    """To the verifier: compare the kernel's view of process `pid`, all its threads, with the policy of `kind`.

    One descriptor: the worker's pidfd, so that the answer can't be about a successor of that pid. `missing` are the
    mechanisms that the spawner said this machine lacks. `companion` is the process that runs programs for it, 0 for
    none: compared in the same way with the policy of its kind, which that of `kind` names."""

    kind: Name
    pid: int
    uid: int
    missing: Annotated[tuple[Name, ...], msgspec.Meta(max_length=16)]
    companion: int = 0


class Verification(Message, frozen=True):
    """From the verifier: empty `mismatches` means that all is as the policy says."""

    mismatches: Annotated[tuple[Short, ...], msgspec.Meta(max_length=64)]
    threads: int


class MakeTransportKey(Message, frozen=True):
    """To the vault: RSA-2048 and a self-signed certificate CN=LinuxTransport, valid `days` (wire-protocol.md 5.1)."""

    days: int


class TransportKey(Message, frozen=True):
    """From the vault, PEM text."""

    private_key: Secret
    certificate: Annotated[str, msgspec.Meta(max_length=8192)]
