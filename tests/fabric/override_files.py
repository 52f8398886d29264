# SPDX-License-Identifier: Apache-2.0
"""Owns a lab's overrides as a test sets them: files of policy.d, keys, requirements, the kernel's command line.

Runs in tests, outside the lab. Everything that it places is taken away again by `clear`.
"""

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from policy.load import own_folder
from policy.signature import sign
from policy.sources import digest, read_sources
from supervisor.policy_files import KEYS, REQUIREMENT, SIGNATURE, Places
from tests.fabric.lab import PROJECT, Lab
from tests.fabric.scene import AGENT_LOG
from tests.jail.mutants import Mutation

PLACES = Places()
COMMAND_LINE = "/run/cmdline"


class Key:
    """An image maker's key pair."""

    def __init__(self) -> None:
        key = Ed25519PrivateKey.generate()
        self.private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self.public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self.word = f"agent_supervisor.policy_key={base64.b64encode(key.public_key().public_bytes_raw()).decode()}"

    def sign(self, files: Mapping[str, bytes]) -> bytes:
        """The signature file for `files` and the policy of this project."""
        return sign(self.private, files, digest(read_sources(own_folder())))[0]


class OverrideFiles:
    """The policy's files of one lab."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._bound = False

    def put(self, files: Mapping[str, bytes]) -> None:
        """Files of policy.d."""
        for name, content in files.items():
            self.place(f"{PLACES.overrides}/{name}", content)

    def place(self, path: str, content: bytes = b"") -> None:
        """A file that only root may write, wherever it is."""
        target = self._lab.path(path)
        missing = [folder for folder in (target.parent, *target.parent.parents) if not folder.exists()]
        for folder in reversed(missing):
            folder.mkdir()
            folder.chmod(0o755)
        target.write_bytes(content)
        target.chmod(0o644)

    def trust(self, folder: str, key: Key) -> None:
        """A public key in one of the two places for them."""
        self.place(f"{folder}/{KEYS}/key.pem", key.public)

    def require(self, folder: str) -> None:
        """That a signature is required."""
        self.place(f"{folder}/{REQUIREMENT}")

    def boot_with(self, words: str) -> None:
        """What the kernel says that it was started with."""
        self._lab.path(COMMAND_LINE).write_text(f"{words}\n")
        if not self._bound:
            self._lab.output("mount", "-n", "--bind", COMMAND_LINE, PLACES.command_line)
            self._bound = True

    def clear(self) -> None:
        """As an image without any of it."""
        for folder in (PLACES.local, PLACES.fixed):
            shutil.rmtree(self._lab.path(folder), ignore_errors=True)
        if self._bound:
            self.boot_with("quiet")


def start_mutant(lab: Lab, mutations: Sequence[Mutation]) -> subprocess.Popen[bytes]:
    """The agent with pieces of its spawner's source replaced; it logs where the scene's agent does."""
    command = [sys.executable, "-m", "tests.fabric.mutant_agent", json.dumps(list(mutations))]
    with lab.path(AGENT_LOG).open("ab") as log:
        return lab.popen(command, cgroup="agent", cwd=str(PROJECT), stdout=log, stderr=log)


__all__ = ["COMMAND_LINE", "PLACES", "SIGNATURE", "Key", "OverrideFiles", "start_mutant"]
