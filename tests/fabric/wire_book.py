# SPDX-License-Identifier: Apache-2.0
"""Owns the book: every rule by which the emulated host may refuse a request, and the trial that holds one against them.

Runs in test processes. What is not in the book can refuse nothing; what passed is remembered, rule by rule.
"""

from dataclasses import dataclass, field

# Rule -> what the host demands. RFC 9112 stands behind those of form, wire-protocol.md behind the others.
RULES: dict[str, str] = {
    # the form of a request (wire_request.py)
    "line-length": "no line of the head is longer than 8 KiB",
    "line-end": "every line of the head ends in CRLF",
    "line-ascii": "the head is printable ASCII",
    "request-line": "the first line is METHOD TARGET HTTP/n.n",
    "header-form": "a header is a token, a colon and a value, on one line",
    "header-count": "at most 64 headers",
    "no-transfer-encoding": "the body's size is told by Content-Length alone",
    "length-given": "what brings a body says how long it is",
    "length-once": "there is one Content-Length",
    "length-size": "Content-Length is a number of bytes, up to 1 MiB",
    "in-time": "the whole request arrives within the host's patience",
    "http-version": "HTTP/1.1",
    "origin-form": "the target is a path",
    "headers-once": "no header is given twice",
    "host-given": "there is a Host header",
    "host-right": "Host is the address that was connected to",
    "connection": "Connection is close or keep-alive",
    "no-expect": "there is no Expect",
    "no-body": "a GET has no body",
    # what is asked for (wire_rules.py)
    "emulated": "the resource is one that this emulation has (the real host has more)",
    "resource": "the resource is one that the host has",
    "method": "the method is that of the resource",
    "agent-name": "x-ms-agent-name is WALinuxAgent",
    "protocol-version": "x-ms-version is 2012-11-30",
    "protocol-offered": "the version asked for is one that the host offers",
    "content-type": "Content-Type is text/xml;charset=utf-8",
    "cipher-name": "x-ms-cipher-name is AES128_CBC or DES_EDE3_CBC",
    "transport-certificate": "x-ms-guest-agent-public-x509-cert is an RSA certificate in DER in base64, on one line",
    "goal-state-first": "a whole goal state was fetched before",
    "address-issued": "the address is one that a goal state named",
    "address-current": "the address is one that the current goal state names",
    # reports (documents.py)
    "xml": "the body is well-formed XML in UTF-8",
    "xml-no-dtd": "the body has no DTD",
    "xml-elements": "each element holds exactly the elements that belong there, in their order",
    "xml-no-text": "no text stands between elements",
    "xml-no-attributes": "inner elements have no attributes",
    "xml-leaf": "an element of text holds no elements",
    "health-root": "the root is Health with the two namespace declarations",
    "health-state": "State is Ready or NotReady",
    "health-details": "NotReady has Details, Ready has none",
    "health-sub-status": "SubStatus is Provisioning or ProvisioningFailed",
    "health-description": "Description says something",
    "health-description-size": "Description has at most 4096 bytes",
    # reports against what the host knows (wire_rules.py)
    "incarnation-fetched": "the incarnation reported on was fetched",
    "container-issued": "the container is one that a goal state named",
    "container-current": "the container is that of the current goal state",
    "instance-current": "the role instance is that of the current goal state",
}
# The same for the secure channel (host_channel.py); secure-channel.md stands behind them.
CHANNEL_RULES: dict[str, str] = {
    "signature-never": "two requests are never signed",
    "signature-given": "where a key is latched and the mode is enforce every other request is signed",
    "signature-form": "the header of authorization is scheme, GUID and signature",
    "signature-key": "the key is the latched one, of an attestation the one that it is about and the host has made",
    "signature-right": "the signature is that of the request as it arrived",
    "channel-date": "x-ms-azure-host-date is a date of RFC 1123 in GMT; in a signed request it is close to the host's",
    "channel-claims": "x-ms-azure-host-claims is a JSON object that says isRoot",
    "channel-metadata": "a request about the channel has Metadata: True",
    "channel-length": "a request about the channel has a Content-Length",
    "channel-wanted": "a key is asked for in JSON, by the scheme's name",
    "channel-on": "a key is made and latched only while the channel is on, and none is latched",
}
# The same for telemetry and health observations (telemetry_rules.py).
TELEMETRY_RULES: dict[str, str] = {
    "telemetry-rate": "telemetry comes at most 15 times in 15 s",
    "telemetry-size": "a body of telemetry has at most 64 KiB",
    "telemetry-root": "the root is TelemetryData of version 1.0",
    "telemetry-provider": "a provider is one of the two that are known",
    "telemetry-event": "an event is one that its provider has",
    "telemetry-parameters": "an event tells exactly what its table has, each as its type says",
    "telemetry-values": "a value is of its type",
    "observations-type": "Content-Type is application/json",
    "observations-form": "observations are the JSON object that the service knows",
    "observations-count": "one to ten observations come at a time",
    "observations-size": "no text of an observation is longer than the service takes",
    "observations-name": "what was observed is one of the five things that agents observe",
}
# The same for the storage account's blobs (blob_store.py).
BLOB_RULES: dict[str, str] = {
    "blob-url": "the URL is one of this account",
    "blob-signature": "the URL's signature is right",
    "blob-permission": "the URL's signature allows that",
    "blob-there": "the blob to read is there, whole",
    "blob-version": "a write says its version",
    "blob-date": "a write says its date",
    "blob-comp": "a write is of a blob or of pages",
    "blob-type": "a new blob is a BlockBlob or a PageBlob",
    "blob-size": "a page blob's size is whole pages, at most 64 MiB",
    "blob-empty": "a page blob is made without content",
    "blob-made": "the page blob was made before its pages come",
    "blob-page-write": "pages are updated",
    "blob-range": "a range is whole pages within the blob, at most 4 MiB",
    "blob-range-length": "as many bytes come as the range has",
}
# The same for the HostGAPlugin (host_plugin.py); hostga-plugin.md stands behind them.
PLUGIN_RULES: dict[str, str] = {
    "plugin-version": "x-ms-version is 2015-09-01",
    "plugin-container-issued": "x-ms-containerid is one that a goal state named",
    "plugin-container-current": "x-ms-containerid is that of the current goal state",
    "plugin-config-issued": "x-ms-host-config-name is one that a goal state named",
    "plugin-config-current": "x-ms-host-config-name is that of the current goal state",
    "plugin-correlation": "x-ms-client-correlationid is a UUID",
    "plugin-verify": "x-ms-verify-from-artifacts-blob is true, if it is there",
    "plugin-location": "x-ms-artifact-location says what is wanted",
    "plugin-json": "Content-Type is application/json",
    "plugin-order": "an upload says requestUri, headers and content, and nothing else",
    "plugin-content": "content is base64",
    "plugin-deployment": "x-ms-vmagentlog-deploymentid is the part of the config's name before the first dot",
    "plugin-client": "x-ms-client-name is WALinuxAgent, and there is a version",
    "plugin-zip": "a log is a zip archive",
}
# The same for the instance metadata service (metadata.py).
METADATA_RULES: dict[str, str] = {
    "metadata-header": "Metadata is true",
    "metadata-forwarded": "the request comes from the VM itself",
    "metadata-version": "api-version is one that the service has",
}
# The same for the status, however it comes (status_document.py).
STATUS_RULES: dict[str, str] = {
    "status-size": "a status has at most 4 MiB",
    "status-json": "a status is a JSON object",
    "status-form": "every object in a status has what belongs there, and nothing else",
    "status-values": "every value in a status is one of its kind",
}


class Refusal(Exception):
    """A request is refused with `status` by `rule`, because of `why`."""

    def __init__(self, rule: str, why: str, status: int = 400) -> None:
        super().__init__(why)
        self.rule = rule
        self.why = why
        self.status = status


ALL_RULES = RULES | CHANNEL_RULES | TELEMETRY_RULES | BLOB_RULES | PLUGIN_RULES | METADATA_RULES | STATUS_RULES


@dataclass
class Trial:
    """One request before the rules; `passed` are those that it was held against and met, in the order of the trial."""

    _passed: dict[str, None] = field(default_factory=dict)

    @property
    def passed(self) -> tuple[str, ...]:
        return tuple(self._passed)

    def demand(self, rule: str, holds: bool, why: str, status: int = 400) -> None:
        """Hold the request against `rule`. Raises Refusal unless it `holds`, KeyError for a rule not in the book."""
        ALL_RULES[rule]
        if not holds:
            self._passed.pop(rule, None)  # it may have held for an earlier line or element
            raise Refusal(rule, why, status)
        self._passed[rule] = None
