# SPDX-License-Identifier: Apache-2.0
"""Owns the services that an Azure host has beside the WireServer, where a lab wants them: HostGAPlugin, storage
account, instance metadata; and a proxy of the tenant's own.

Runs in test processes. What was not asked for does not listen.
"""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.fabric import host_plugin, storage
from tests.fabric.doors import Door, Entrance, Service
from tests.fabric.faults import Script
from tests.fabric.host_plugin import HostPlugin
from tests.fabric.metadata import Metadata
from tests.fabric.proxy import Proxy
from tests.fabric.recording import Recording
from tests.fabric.storage import Storage
from tests.fabric.wire_rules import Host

Address = tuple[str, int]


@dataclass(frozen=True)
class Places:
    """Where each of them listens, None: nowhere. `identity`: the storage account's certificate and key, in PEM; without
    it the account speaks plain HTTP."""

    plugin: Address | None = None
    storage: Address | None = None
    metadata: Address | None = None
    proxy: Address | None = None
    identity: Path | None = None


class Neighbours:
    """All of them, for one host; `doors` are those that listen, by the name that faults know them by."""

    def __init__(self, places: Places, host: Host, faults: Script, recording: Recording, patience_s: float) -> None:
        self.plugin = HostPlugin(host)
        self.metadata = Metadata()
        self.proxy = Proxy(places.proxy, patience_s) if places.proxy is not None else None
        self.doors: dict[str, Entrance] = {}
        services = {}
        if places.plugin is not None:
            most = host_plugin.MOST_BODY_BYTES
            services["plugin"] = Service(places.plugin, self.plugin, faults, most_body_bytes=most)
        if places.storage is not None:
            services["storage"] = _storage(places.storage, places.identity, host, faults)
        if places.metadata is not None:
            services["metadata"] = Service(places.metadata, self.metadata, faults)
        for name, service in services.items():
            self.doors[name] = Door.of(service, recording, patience_s)
        if self.proxy is not None:
            self.doors["proxy"] = self.proxy


def _storage(address: Address, identity: Path | None, host: Host, faults: Script) -> Service:
    """The account, called by the name that its URLs have."""
    tls = None
    if identity is not None:
        from tests.fabric.authority import server_context  # late: few labs have one

        tls = server_context(identity)
    parts = urlsplit(host.blobs.base)
    usual = 443 if parts.scheme == "https" else 80
    hosts = (parts.netloc, f"{parts.hostname}:{parts.port or usual}")
    return Service(address, Storage(host), faults, hosts, storage.MOST_BODY_BYTES, tls)
