# SPDX-License-Identifier: Apache-2.0
"""Owns the emulated instance metadata service (wire-protocol.md 14): what it tells of the VM, and to whom.

Runs in test processes; the caller holds the lock.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from tests.fabric.answers import JSON, Answer, Judgement, judged
from tests.fabric.wire_request import Request

ROUTE = "metadata"
ASKED = re.compile(r"/metadata/instance(/compute)?\?api-version=(\d{4}-\d\d-\d\d)")
VERSIONS = ("2017-12-01", "2018-02-01", "2019-06-01", "2021-02-01")


def _compute() -> dict[str, str]:
    return {
        "location": "emulated",
        "name": "vm-demo",
        "offer": "debian-12",
        "osType": "Linux",
        "publisher": "Debian",
        "resourceGroupName": "tests",
        "sku": "12",
        "subscriptionId": "2b2f7d44-93e0-43ea-a3a1-6b7c0f9b7f10",
        "tags": "",
        "version": "0.20260101.1",
        "vmId": "2f8a7c41-5b6d-4e90-9a3b-7c1d2e4f6a80",
        "vmScaleSetName": "",
        "vmSize": "Standard_B2s",
        "zone": "",
    }


def _network() -> dict[str, Any]:
    address = {"privateIpAddress": "10.0.0.4", "publicIpAddress": ""}
    subnet = {"address": "10.0.0.0", "prefix": "24"}
    interface = {
        "ipv4": {"ipAddress": [address], "subnet": [subnet]},
        "ipv6": {"ipAddress": []},
        "macAddress": "000D3A3382E8",
    }
    return {"interface": [interface]}


@dataclass
class Metadata:
    """What it tells."""

    compute: dict[str, str] = field(default_factory=_compute)
    network: dict[str, Any] = field(default_factory=_network)

    def route(self, request: Request) -> str:
        return ROUTE if request.target.startswith("/metadata/") else "other"

    def judge(self, request: Request) -> Judgement:
        return judged(request, self._judge)

    def _judge(self, request: Request) -> Judgement:
        demand = request.trial.demand
        asked = ASKED.fullmatch(request.target)
        demand("resource", asked is not None, f"no such resource: {request.method} {request.target}", 404)
        assert asked is not None
        demand("method", request.method == "GET", f"{request.method} instead of GET", 405)
        header = request.header("Metadata")
        demand("metadata-header", (header or "").lower() == "true", f"Metadata is {header!r}")
        demand("metadata-forwarded", request.header("X-Forwarded-For") is None, "the request comes through a proxy")
        demand("metadata-version", asked[2] in VERSIONS, f"api-version is {asked[2]}")
        told = self.compute if asked[1] else {"compute": self.compute, "network": self.network}
        return Judgement(Answer(200, json.dumps(told).encode(), JSON))
