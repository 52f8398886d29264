# SPDX-License-Identifier: Apache-2.0
"""Owns the one piece of work of the sealed compiler: gathered bytes in, the checked and compiled policy out.

Runs as policy-compiler, forked from the spawner before anything else, confined before it is given a byte. It must not
keep anything, and what it refuses is refused as a whole.
"""

import os
from collections.abc import Callable

import msgspec

from ipc.channel import Channel
from ipc.descriptors import close_all, read_sealed, sealed_memfd
from ipc.digest import sha256_hex
from ipc.errors import ChannelClosed, ConfigError
from ipc.messages import CompilePolicy, PolicyCompiled, PolicyRefused, WorkerReady
from ipc.provided import Main, Provided
from policy.call_numbers import tables
from policy.filters import program
from policy.groups import CallSet
from policy.load import SEALED_NAME
from policy.material import MAX_MATERIAL_BYTES, Material
from supervisor.compiler.ruling import rule

MAX_REFUSAL = 8000


def prepare(_: Provided) -> Main:
    """The main function, after all that it reads from disk, and all that libraries load when first used."""
    tables()
    program(CallSet(frozenset({"read"}), frozenset(), (), "kill"), sha256_hex([b""]))
    return main


def main(channel: Channel, lock: Callable[[], None]) -> None:
    """Answer one `CompilePolicy`."""
    lock()
    channel.send(WorkerReady())
    try:
        request, descriptors = channel.receive()
    except ChannelClosed:
        return
    if not isinstance(request, CompilePolicy) or len(descriptors) != 1:
        raise SystemExit(1)
    material = msgspec.msgpack.decode(read_sealed(descriptors[0], MAX_MATERIAL_BYTES), type=Material)
    close_all(descriptors)
    try:
        policy = rule(material)
    except ConfigError as error:
        channel.send(PolicyRefused(str(error)[:MAX_REFUSAL]))
        return
    answer = sealed_memfd(SEALED_NAME, msgspec.msgpack.encode(policy))
    channel.send(PolicyCompiled(), (answer,))
    os.close(answer)
    channel.close()
