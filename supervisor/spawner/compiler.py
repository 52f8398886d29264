# SPDX-License-Identifier: Apache-2.0
"""Owns the sealed compiler as the spawner sees it: given what was gathered, it answers with a policy or a refusal.

Runs in the spawner before the supervisor's start, and only where something was gathered; loaded for that alone. It
reads nothing of an answer but what has the shape of a policy.
"""

import os
import time
from collections.abc import Mapping

import msgspec

from ipc.channel import PacketChannel
from ipc.descriptors import close_all, packet_pair, sealed_memfd
from ipc.errors import AgentError, ChannelClosed, ConfigError, ProtocolViolation
from ipc.messages import CompilePolicy, Message, PolicyCompiled, PolicyRefused, WorkerReady
from policy.load import given
from policy.material import Material
from policy.profile import Compiled, CompiledPolicy
from supervisor.exits import exit_text
from supervisor.jail import namespaces
from supervisor.jail.cgroup import Tree
from supervisor.jail.confine import missing_mechanisms
from supervisor.policy_files import refuse_links
from supervisor.spawner.child import Birth
from supervisor.spawner.process import Process, begin

KIND = "policy-compiler"
SOURCE = "the sealed compiler of the policy"
STDERR = 2


def in_force(shipped: CompiledPolicy, tree: Tree, material: Material) -> tuple[CompiledPolicy, int]:
    """The policy by all of `material`, and the sealed file that holds it, for the supervisor.

    ConfigError when there can be none: refused, with the compiler's own sentence, or the compiler failed."""
    answer = _compiled({compiled.profile.kind: compiled for compiled in shipped.programs}, tree, material)
    try:
        policy = given(answer)
    except (AgentError, msgspec.MsgspecError) as error:
        raise ConfigError(SOURCE, f"answered with no policy: {error}") from None
    refuse_links(policy)
    return policy, answer


def _compiled(policies: Mapping[str, Compiled], tree: Tree, material: Material) -> int:
    """The sealed file that the compiler answers with; ConfigError with what went wrong instead."""
    ours, theirs = packet_pair()
    channel = PacketChannel(ours)
    process = _begin(policies, tree, theirs.fileno())
    theirs.close()
    patience_s = policies[KIND].profile.lifetime.deadline_s
    ends = time.monotonic() + patience_s
    problem = ""
    try:
        return _converse(channel, material, ends)
    except ChannelClosed:
        if time.monotonic() >= ends:
            problem = f"did not finish within {patience_s:g} s and was killed"
    except ProtocolViolation as error:
        problem = f"broke the rules of its channel: {error}"
    finally:
        process.kill()
        status = process.reap().status
        channel.close()
    raise ConfigError(SOURCE, problem or f"{exit_text(status)} and gave no answer")


def _begin(policies: Mapping[str, Compiled], tree: Tree, side: int) -> Process:
    compiled = policies[KIND]
    lifeline, namespace = os.pidfd_open(os.getpid()), namespaces.own_pid_namespace()
    try:
        group = tree.create_beside(KIND, compiled.profile.limits)
        uid = compiled.profile.identity.uid
        birth = Birth(KIND, compiled, policies, uid, "", group, side, STDERR, lifeline, missing_mechanisms())
        return begin(birth, namespace)
    finally:
        close_all((lifeline, namespace))


def _converse(channel: PacketChannel, material: Material, ends: float) -> int:
    _expect(channel, ends, WorkerReady, 0)
    sealed = sealed_memfd("material", msgspec.msgpack.encode(material))
    try:
        channel.send(CompilePolicy(), (sealed,))
    finally:
        os.close(sealed)
    return _expect(channel, ends, PolicyCompiled, 1)[0]


def _expect(channel: PacketChannel, ends: float, kind: type[Message], count: int) -> tuple[int, ...]:
    """The descriptors of the message that is due; ConfigError with the compiler's sentence where it refuses."""
    message, descriptors = channel.receive(max(0.0, ends - time.monotonic()))
    if isinstance(message, kind) and len(descriptors) == count:
        return descriptors
    close_all(descriptors)
    if isinstance(message, PolicyRefused):
        raise ConfigError("policy", message.problem)
    raise ProtocolViolation(f"{type(message).__name__} with {len(descriptors)} descriptors was not due")
