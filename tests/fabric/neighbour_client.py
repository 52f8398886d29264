# SPDX-License-Identifier: Apache-2.0
"""Owns the right requests to the emulated host's other services, as the reference agent sends them.

Runs in test processes. Its drafts are for wire_client, which repairs nothing.
"""

import base64
import json
import uuid
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from tests.fabric.documents import GoalState
from tests.fabric.telemetry_rules import COMMON, TABLES
from tests.fabric.wire_client import Draft, get, post

JSON = ("Content-Type", "application/json")
_SAMPLES = {"wstr": "text", "uint64": "7", "bool": "True", "float64": "0.5"}
Address = tuple[str, int]


def plugin(address: Address, goal_state: GoalState, target: str, *more: tuple[str, str]) -> Draft:
    """A GET with the HostGAPlugin's headers."""
    ids = (("x-ms-containerid", goal_state.container_id), ("x-ms-host-config-name", goal_state.config_name))
    return get(address, target, ("x-ms-version", "2015-09-01"), *ids, *more)


def vm_settings(address: Address, goal_state: GoalState, etag: str = "") -> Draft:
    known = (("if-none-match", etag),) if etag else ()
    return plugin(address, goal_state, "/vmSettings", ("x-ms-client-correlationid", str(uuid.uuid4())), *known)


def artifact(address: Address, goal_state: GoalState, url: str) -> Draft:
    return plugin(address, goal_state, "/extensionArtifact", ("x-ms-artifact-location", url))


def with_body(draft: Draft, body: bytes, *more: tuple[str, str], method: str = "PUT") -> Draft:
    size = ("Content-Length", str(len(body)))
    return replace(draft, method=method, body=body, headers=(*draft.headers, size, *more))


def upload(address: Address, goal_state: GoalState, url: str, headers: dict[str, str], content: bytes | None) -> Draft:
    """A PUT of one blob, or of pages, through the HostGAPlugin."""
    told: dict[str, Any] = {
        "requestUri": url,
        "headers": [{"headerName": name, "headerValue": value} for name, value in headers.items()],
    }
    if content is not None:
        told["content"] = base64.b64encode(content).decode()
    return with_body(plugin(address, goal_state, "/status"), json.dumps(told).encode(), JSON)


def log(address: Address, goal_state: GoalState, content: bytes) -> Draft:
    """A PUT of a log."""
    headers = (
        ("x-ms-version", "2015-09-01"),
        ("x-ms-containerid", goal_state.container_id),
        ("x-ms-vmagentlog-deploymentid", goal_state.deployment_id),
        ("x-ms-client-name", "WALinuxAgent"),
        ("x-ms-client-version", "2.15.0.1"),
        ("x-ms-client-correlationid", str(uuid.uuid4())),
    )
    return with_body(get(address, "/vmAgentLog", *headers), content)


def block_headers() -> dict[str, str]:
    """Of a PUT of a whole block blob."""
    return {"x-ms-version": "2014-02-14", "x-ms-date": "2026-01-01T00:00:00Z", "x-ms-blob-type": "BlockBlob"}


def page_blob_headers(size: int) -> dict[str, str]:
    """Of a PUT that makes a page blob."""
    return {**block_headers(), "x-ms-blob-type": "PageBlob", "x-ms-blob-content-length": str(size)}


def pages_headers(first: int, last: int) -> dict[str, str]:
    """Of a PUT of these bytes of a page blob."""
    common = {name: value for name, value in block_headers().items() if name != "x-ms-blob-type"}
    return {**common, "x-ms-range": f"bytes={first}-{last}", "x-ms-page-write": "update"}


def blob(address: Address, url: str) -> Draft:
    """A GET from the storage account itself."""
    parts = urlsplit(url)
    return Draft("GET", url.removeprefix(f"{parts.scheme}://{parts.netloc}"), (("Host", parts.netloc),))


def put_blob(address: Address, url: str, headers: dict[str, str], content: bytes) -> Draft:
    return with_body(blob(address, url), content, *headers.items())


def telemetry(address: Address, tables: tuple[tuple[str, str], ...] = tuple(TABLES)) -> Draft:
    """A POST of one event of each of these tables."""
    events = "".join(
        f'<Provider id="{provider}"><Event id="{number}"><![CDATA['
        + "".join(
            f'<Param Name="{name}" Value="{_SAMPLES[form]}" T="mt:{form}" />'
            for name, form in (TABLES[provider, number] | COMMON).items()
        )
        + "]]></Event></Provider>"
        for provider, number in tables
    )
    body = f'<?xml version="1.0"?><TelemetryData version="1.0">{events}</TelemetryData>'
    return post(address, "/machine?comp=telemetrydata", body.encode())


def observations(address: Address, *names: str) -> Draft:
    """A POST of these observations, all healthy."""
    listed = [{"ObservationName": name, "IsHealthy": True, "Description": "", "Value": ""} for name in names]
    told = {"Api": "reporttargethealth", "Version": "1.0", "Source": "WALinuxAgent", "Observations": listed}
    return with_body(get(address, "/HealthService"), json.dumps(told).encode(), JSON, method="POST")


def metadata(address: Address, target: str = "/metadata/instance/compute?api-version=2018-02-01") -> Draft:
    return get(address, target, ("Metadata", "True"))


def status(**changed: Any) -> dict[str, Any]:
    """A status without extensions, as an agent uploads it."""
    message = {"lang": "en-US", "message": "Guest Agent is running"}
    return {
        "version": "1.1",
        "timestampUTC": "2026-01-01T00:00:00Z",
        "aggregateStatus": {
            "guestAgentStatus": {"version": "2.15.0.1", "status": "Ready", "formattedMessage": message},
            "handlerAggregateStatus": [],
        },
        "guestOSInfo": {"computerName": "vm", "osName": "debian", "osVersion": "12", "version": "2.15.0.1"},
        "supportedFeatures": [{"Key": "FastTrack", "Value": "1.0"}],
    } | changed
