# SPDX-License-Identifier: Apache-2.0
"""Owns the emulated HostGAPlugin: what it tells, which requests it accepts, and what it does for them
(hostga-plugin.md).

Runs in test processes; the caller holds the lock. It has the WireServer's ids and signatures, and the account's blobs.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.fabric.answers import BYTES, JSON, Answer, Judgement
from tests.fabric.extensions_documents import PLUGIN_VERSION, vm_settings_json
from tests.fabric.plan import Plan
from tests.fabric.wire_headers import AGENT_NAME
from tests.fabric.wire_request import Request
from tests.fabric.wire_rules import Host

API_VERSION = "2015-09-01"
UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
MOST_BODY_BYTES = 64 * 1024 * 1024
MOST_LOGS = 8


@dataclass
class HostPlugin:
    """`fast`: what a FastTrack goal state wants, None: vmSettings tell the WireServer's one. `supports_vm_settings`
    False: as old ones. `logs`: the newest that were put."""

    host: Host
    versions: tuple[str, ...] = ("2015-08-31", API_VERSION, "2015-10-01")
    supports_vm_settings: bool = True
    version: str = PLUGIN_VERSION
    fast: Plan | None = None
    logs: list[bytes] = field(default_factory=list)
    _changes: int = 0

    # --- what it tells

    def publish(self, plan: Plan | None) -> str:
        """Tell of a FastTrack goal state that wants this; with None, of the WireServer's again. The new ETag."""
        self.fast = self.host.settle(plan) if plan is not None else None
        self._changes += 1
        return self.etag

    @property
    def etag(self) -> str:
        """Another one whenever what vmSettings tell has changed."""
        return str(11_038_253_438_432 + 1000 * self._changes + len(self.host.issued))

    def vm_settings(self) -> str:
        """The document."""
        fabric = self.host.goal_state
        if self.fast is None:
            return vm_settings_json(fabric.plan, "Fabric", fabric.incarnation, self.version)
        return vm_settings_json(self.fast, "FastTrack", self._changes, self.version)

    # --- what it accepts

    def route(self, request: Request) -> str:
        path = request.target.partition("?")[0]
        return ROUTES.get(path, "other")

    def judge(self, request: Request) -> Judgement:
        return self.host.judge_by(request, self._judge)

    def _judge(self, request: Request) -> Judgement:
        name, asked = self.route(request), f"{request.method} {request.target}"
        request.trial.demand("resource", name in HANDLERS, f"no such resource: {asked}", 404)
        method, handler = HANDLERS[name]
        request.trial.demand("method", request.method == method, f"{request.method} instead of {method}", 405)
        return handler(self, request)

    def _versions(self, request: Request) -> Judgement:
        self._check_container(request)
        return Judgement(Answer(200, json.dumps(self.versions).encode(), JSON))

    def _health(self, _request: Request) -> Judgement:
        return Judgement(Answer(200))

    def _vm_settings(self, request: Request) -> Judgement:
        self._check_ids(request)
        self._check_correlation(request)
        if not self.supports_vm_settings:
            return Judgement(Answer(404, b"no such resource", "text/plain"))
        etag = (("ETag", self.etag),)
        if request.header("if-none-match") == self.etag:
            return Judgement(Answer(304, headers=etag))
        return Judgement(Answer(200, self.vm_settings().encode(), JSON, headers=etag))

    def _artifact(self, request: Request) -> Judgement:
        self._check_ids(request)
        demand = request.trial.demand
        verify = request.header("x-ms-verify-from-artifacts-blob")
        demand("plugin-verify", verify in {None, "true"}, f"x-ms-verify-from-artifacts-blob is {verify!r}")
        location = request.header("x-ms-artifact-location")
        demand("plugin-location", bool(location), "x-ms-artifact-location is missing")
        content = self.host.blobs.read(location or "", request.trial)
        return Judgement(Answer(200, content, BYTES))

    def _status(self, request: Request) -> Judgement:
        self._check_ids(request)
        demand = request.trial.demand
        kind = (request.header("Content-Type") or "").lower()
        demand("plugin-json", kind == "application/json", f"Content-Type is {kind!r} instead of 'application/json'")
        url, headers, content = self._order(request)
        effect = self.host.blobs.accept(url, headers, content, request.trial)
        return Judgement(Answer(200), effect=effect)

    def _order(self, request: Request) -> tuple[str, dict[str, str], bytes]:
        """What a request for an upload says (hostga-plugin.md 3). Raises Refusal."""
        demand = request.trial.demand
        try:
            told = json.loads(request.body)
        except ValueError:
            told = None
        keyed = isinstance(told, dict) and told.keys() - {"content"} == {"requestUri", "headers"}
        demand("plugin-order", keyed, "the body has not exactly requestUri, headers and content")
        url, listed = told["requestUri"], told["headers"]
        right = isinstance(url, str) and isinstance(listed, list)
        shaped = right and all(isinstance(one, dict) and one.keys() == {"headerName", "headerValue"} for one in listed)
        texts = shaped and all(isinstance(value, str) for one in listed for value in one.values())
        demand("plugin-order", texts, "the headers are not a list of headerName and headerValue")
        headers = {one["headerName"].lower(): one["headerValue"] for one in listed}
        demand("plugin-order", len(headers) == len(listed), "a header is given twice")
        try:
            content = base64.b64decode(told.get("content", ""), validate=True)
        except (binascii.Error, TypeError, ValueError):
            content = None
        demand("plugin-content", content is not None, "the content is no base64")
        return url, headers, content or b""

    def _log(self, request: Request) -> Judgement:
        self._check_version(request)
        self._check_container(request)
        self._check_correlation(request)
        demand = request.trial.demand
        deployment = request.header("x-ms-vmagentlog-deploymentid")
        expected = self.host.goal_state.deployment_id
        demand("plugin-deployment", deployment == expected, f"x-ms-vmagentlog-deploymentid is {deployment!r}")
        client = request.header("x-ms-client-name"), bool(request.header("x-ms-client-version"))
        demand("plugin-client", client == (AGENT_NAME, True), f"x-ms-client-name and -version are {client}")
        demand("plugin-zip", request.body.startswith(b"PK"), "the body is no zip archive")
        return Judgement(Answer(200), effect=lambda: self._keep(request.body))

    def _keep(self, log: bytes) -> None:
        self.logs = [*self.logs, log][-MOST_LOGS:]

    # --- headers

    def _check_version(self, request: Request) -> None:
        version = request.header("x-ms-version")
        request.trial.demand("plugin-version", version == API_VERSION, f"x-ms-version is {version!r}")

    def _check_container(self, request: Request) -> None:
        told = request.header("x-ms-containerid")
        self._check_id(request, "container", told, [known.container_id for known in self.host.issued])

    def _check_ids(self, request: Request) -> None:
        self._check_version(request)
        self._check_container(request)
        told = request.header("x-ms-host-config-name")
        self._check_id(request, "config", told, [known.config_name for known in self.host.issued])

    def _check_id(self, request: Request, what: str, told: str | None, issued: list[str]) -> None:
        """One that was right once is gone (410); one that never was is wrong, in the host's own word."""
        demand, why = request.trial.demand, f"InvalidContainerConfiguration: {what} {str(told)[:80]!r}"
        demand(f"plugin-{what}-issued", told in issued, f"{why} was never issued")
        demand(f"plugin-{what}-current", told == issued[-1], f"the {what} is that of an earlier goal state", 410)

    def _check_correlation(self, request: Request) -> None:
        told = request.header("x-ms-client-correlationid") or ""
        right = UUID.fullmatch(told) is not None
        request.trial.demand("plugin-correlation", right, f"x-ms-client-correlationid {told[:60]!r} is no UUID")


# Path -> the name of its route.
ROUTES = {
    "/versions": "pluginversions",
    "/health": "pluginhealth",
    "/vmSettings": "vmsettings",
    "/extensionArtifact": "artifact",
    "/status": "status",
    "/vmAgentLog": "vmagentlog",
}
HANDLERS: dict[str, tuple[str, Callable[[HostPlugin, Request], Judgement]]] = {
    "pluginversions": ("GET", HostPlugin._versions),
    "pluginhealth": ("GET", HostPlugin._health),
    "vmsettings": ("GET", HostPlugin._vm_settings),
    "artifact": ("GET", HostPlugin._artifact),
    "status": ("PUT", HostPlugin._status),
    "vmagentlog": ("PUT", HostPlugin._log),
}
