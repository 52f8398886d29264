# SPDX-License-Identifier: Apache-2.0
"""Owns what waagent's policy file says now (extensions.md 4.1): copied by one worker, read by another.

Runs in the supervisor, which can neither open that file nor looks into the copy. It must never take a file that can't
be read for none.
"""

import os
from collections.abc import Callable

from ipc.descriptors import close_all, read_sealed, sealed_memfd
from ipc.digest import sha256_hex
from ipc.errors import AgentError
from ipc.messages import ExtensionPolicyFile, InputRefused, ParseExtensionPolicy, ReadWaagentPolicy, WaagentPolicyRead
from ipc.messages.waagent_policy import MOST_POLICY_BYTES
from supervisor import options
from supervisor.audit_log_entry import Entry
from supervisor.extensions.ruling import Waagent
from supervisor.parts import Parts

KIND, SOURCE = "waagent-policy", "extensions"
HISTORY_NAME = "waagent_policy.json"


class WaagentPolicy:
    """The file of Policy.PolicyFilePath, where Debug.EnableExtensionPolicy is y. `now` is what was last read of it."""

    def __init__(self, parts: Parts, keep: Callable[[str, bytes], None]) -> None:
        """`keep` takes a name and a content for the history, of each file that is there."""
        self._fleet = parts.fleet
        self._say = parts.say
        self._audit = parts.audit
        self._keep = keep
        self._path = parts.config[options.POLICY_FILE]
        self._is_asked = parts.config[options.DEBUG_EXTENSION_POLICY]
        self.now = Waagent(self._path)
        self._told = ("", "")

    async def read(self) -> Waagent:
        """What it says now, for one goal state. Whatever goes wrong is the `problem` of the answer."""
        if self._is_asked:
            self.now = await self._read()
        return self.now

    async def _read(self) -> Waagent:
        try:
            content = await self._copy()
            if content is None:
                self._note("", "")
                return Waagent(self._path)
            self._keep(HISTORY_NAME, content)
            file = await self._parse(content)
        except (AgentError, OSError) as error:
            self._note("", str(error))
            return Waagent(self._path, None, str(error))
        self._note(sha256_hex([content]), "")
        return Waagent(self._path, file)

    async def _copy(self) -> bytes | None:
        """The file's content; None if there is none."""
        answer, descriptors = (await self._fleet.do(KIND, ReadWaagentPolicy(), final=(WaagentPolicyRead,)))[-1]
        try:
            if not isinstance(answer, WaagentPolicyRead) or answer.problem:
                raise Unusable(getattr(answer, "problem", "its worker refused"))
            return read_sealed(descriptors[0], MOST_POLICY_BYTES) if answer.is_there else None
        finally:
            close_all(descriptors)

    async def _parse(self, content: bytes) -> ExtensionPolicyFile:
        memfd = sealed_memfd(KIND, content)
        try:
            request = ParseExtensionPolicy()
            received = await self._fleet.do("parser", request, (memfd,), final=(ExtensionPolicyFile,))
        finally:
            os.close(memfd)
        answer, descriptors = received[-1]
        close_all(descriptors)
        if isinstance(answer, ExtensionPolicyFile):
            return answer
        if isinstance(answer, InputRefused):
            raise Unusable(f"{answer.where}: {answer.problem}")
        raise Unusable("its parser gave no answer")

    def _note(self, digest: str, problem: str) -> None:
        """Once for each change: which policies were in force when, the audit log can tell."""
        if self._told == (digest, problem):
            return
        self._told = (digest, problem)
        if problem:
            sentence = f"{self._path} can't be used, and until it can no operation is allowed: {problem}"
            self._say("error", SOURCE, sentence)
        told = f"can't be used: {problem}" if problem else "in force" if digest else "gone"
        self._audit(Entry("policy", digest=digest, detail=f"waagent's policy file {self._path}: {told}"))


class Unusable(AgentError):
    """There is a policy file, and it is none that can be used."""
