# SPDX-License-Identifier: Apache-2.0
"""Owns a lab's Azure in full: the host with HostGAPlugin and instance metadata, a storage account by HTTPS, a proxy.

Runs in the test or the demo. Addresses are of the lab's own network namespace; names and trust are in its files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fabric.authority import IDENTITY, Authority
from tests.fabric.lab import PlacedFile
from tests.fabric.scene import Scene

ACCOUNT = "emulated.blob.storage.test"
# Addresses that belong to documentation (RFC 5737), and the service's own.
STORAGE, PROXY, METADATA = "203.0.113.10", "203.0.113.20", "169.254.169.254"
PLUGIN_PORT, PROXY_PORT = 32526, 3128


@dataclass(frozen=True)
class Surroundings:
    """`is_trusted` False: the lab doesn't know the authority behind the account's certificate."""

    authority: Authority
    is_trusted: bool = True

    @classmethod
    def make(cls) -> "Surroundings":
        """The usual one."""
        return cls(Authority.make(ACCOUNT))

    def files(self) -> dict[str, bytes | PlacedFile]:
        """What the lab's image needs beside its own."""
        hosts = Path("/etc/hosts")
        names = hosts.read_bytes() if hosts.exists() else b"127.0.0.1 localhost\n"
        placed: dict[str, bytes | PlacedFile] = {"/etc/hosts": names + f"\n{STORAGE} {ACCOUNT}\n".encode()}
        if self.is_trusted:
            placed |= self.authority.files()
        return placed | {IDENTITY: PlacedFile(self.authority.identity, 0o600)}

    def start_host(self, scene: Scene, *faults: str, more: Sequence[str] = ()) -> None:
        """Have all of it listen; `faults` and `more` as Scene.start_host takes them."""
        for address in (STORAGE, PROXY, METADATA):
            scene.lab.output("ip", "address", "replace", f"{address}/32", "dev", "lo")
        scene.start_host(*faults, more=[*self.options(), *more])

    def options(self) -> list[str]:
        """What the host is started with."""
        return [
            f"--plugin=168.63.129.16:{PLUGIN_PORT}",
            f"--metadata={METADATA}:80",
            f"--storage={STORAGE}:443",
            f"--account=https://{ACCOUNT}",
            f"--identity={IDENTITY}",
            f"--proxy={PROXY}:{PROXY_PORT}",
        ]
