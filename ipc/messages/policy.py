# SPDX-License-Identifier: Apache-2.0
"""Owns the messages between the spawner and the sealed compiler of policies."""

from typing import Annotated

import msgspec

from ipc.messages.base import Message


class CompilePolicy(Message, frozen=True):
    """To the compiler. One descriptor: a sealed file with policy.material.Material, at most 8 MiB."""


class PolicyCompiled(Message, frozen=True):
    """From the compiler. One descriptor: a sealed file with policy.profile.CompiledPolicy, at most 4 MiB."""


class PolicyRefused(Message, frozen=True):
    """From the compiler: there can be no policy. `problem` names file and key, what was wrong and what was expected."""

    problem: Annotated[str, msgspec.Meta(max_length=8000)]
