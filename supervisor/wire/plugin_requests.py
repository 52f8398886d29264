# SPDX-License-Identifier: Apache-2.0
"""Owns the catalogue of requests to the HostGAPlugin: targets and headers (hostga-plugin.md 2 and 3).

Runs in the supervisor; it never touches a socket. Ids and URLs come from documents: what can't stand in a header is
refused here, with an error that names it.
"""

from binascii import b2a_base64

import h11
import msgspec

from ipc.errors import HostError
from supervisor.compatibility import AGENT_NAME, AGENT_VERSION
from supervisor.wire.requests import COMMON, Request
from supervisor.wire.status_blob import Put
from supervisor.wire.urls import shown

API_VERSION = "2015-09-01"
# What is said about a refusal is a sentence.
_WORDS_BYTES = 64 * 1024
_VERSIONS_BYTES = 64 * 1024
_EXACTLY_OK = frozenset({200})

Fields = tuple[tuple[str, str], ...]


class PluginIds(msgspec.Struct, frozen=True):
    """Who asks, from the newest goal state."""

    container_id: str
    config_name: str

    @property
    def deployment_id(self) -> str:
        """Config names begin with it."""
        return self.config_name.partition(".")[0]


class _Header(msgspec.Struct, frozen=True, rename="camel"):
    """One header as the plugin wants it, in JSON."""

    header_name: str
    header_value: str


class _Upload(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """The body of PUT /status, its keys in the order of the alphabet; without content where there is none."""

    content: str | msgspec.UnsetType
    headers: tuple[_Header, ...]
    request_uri: str


class PluginCatalogue:
    """The requests to one host's plugin; `host` is the value of the Host header."""

    def __init__(self, host: str) -> None:
        self._host = host
        self.health = self._get("/health", (), _WORDS_BYTES)

    def versions(self, ids: PluginIds) -> Request:
        """What API versions it speaks."""
        return self._get("/versions", (_container(ids),), _VERSIONS_BYTES, accepted=_EXACTLY_OK)

    def vm_settings(self, ids: PluginIds, etag: str, correlation_id: str, most_bytes: int) -> Request:
        """The settings, if they are others than those of `etag`; without one, whatever they are."""
        known = (("if-none-match", etag),) if etag else ()
        correlation = ("x-ms-client-correlationid", correlation_id)
        return self._get("/vmSettings", (_VERSION, *_identity(ids), correlation, *known), most_bytes)

    def artifact(  # noqa: PLR0913 - a request and its conditions, each by its name
        self, ids: PluginIds, url: str, manifest_url: str, *, verify: bool, most_bytes: int, into: int | None = None
    ) -> Request:
        """What stands at `url`; for a package with the manifest that names it. `verify`: the host checks first that
        the artifacts' blob of this VM names it, too. `into`: as a Request's."""
        fields = (_VERSION, *_identity(ids), ("x-ms-artifact-location", _sendable(url)))
        if manifest_url:
            fields += (("x-ms-artifact-manifest-location", _sendable(manifest_url)),)
        if verify:
            fields += (("x-ms-verify-from-artifacts-blob", "true"),)
        request = self._get("/extensionArtifact", fields, most_bytes, what=f" of {shown(url)}", accepted=_EXACTLY_OK)
        return request if into is None else msgspec.structs.replace(request, into=into)

    def status(self, ids: PluginIds, put: Put, content: bytes) -> Request:
        """Have it send `put`; `content` is all of what is stored."""
        part = content[put.start : put.end]
        headers = tuple(_Header(name, value) for name, value in put.headers)
        encoded = b2a_base64(part, newline=False).decode("ascii") if part else msgspec.UNSET
        body = msgspec.json.encode(_Upload(content=encoded, headers=headers, request_uri=put.url))
        length = ("Content-Length", str(len(body)))
        fields = (length, _VERSION, ("Content-type", "application/json"), *_identity(ids))
        return Request("PUT /status", self._head("PUT", "/status", fields), body, _WORDS_BYTES, repeatable=True)

    def log(self, ids: PluginIds, correlation_id: str, file: int, size: int) -> Request:
        """Take the archive in `file`, `size` bytes. Not repeatable of itself: it is long."""
        fields = (
            ("Content-Length", str(size)),
            _VERSION,
            _container(ids),
            ("x-ms-vmagentlog-deploymentid", _sendable(ids.deployment_id)),
            ("x-ms-client-name", AGENT_NAME),
            ("x-ms-client-version", AGENT_VERSION),
            ("x-ms-client-correlationid", correlation_id),
        )
        head = self._head("PUT", "/vmAgentLog", fields)
        return Request("PUT /vmAgentLog", head, b"", _WORDS_BYTES, repeatable=False, file=file, file_bytes=size)

    def _get(
        self, target: str, fields: Fields, most_bytes: int, what: str = "", accepted: frozenset[int] | None = None
    ) -> Request:
        request = Request(f"GET {target}{what}", self._head("GET", target, fields), b"", most_bytes, repeatable=True)
        return msgspec.structs.replace(request, accepted=accepted) if accepted else request

    def _head(self, method: str, target: str, fields: Fields) -> h11.Request:
        return h11.Request(method=method, target=target, headers=[("Host", self._host), *COMMON, *fields])


_VERSION = ("x-ms-version", API_VERSION)


def _container(ids: PluginIds) -> tuple[str, str]:
    return "x-ms-containerid", _sendable(ids.container_id)


def _identity(ids: PluginIds) -> Fields:
    return _container(ids), ("x-ms-host-config-name", _sendable(ids.config_name))


def _sendable(text: str) -> str:
    """`text`, if a header can carry it as it is."""
    if not text.isascii() or not text.isprintable() or text != text.strip():
        raise HostError(f"{shown(text)!r}, from a document of the host's, can't stand in a header; nothing is sent")
    return text
