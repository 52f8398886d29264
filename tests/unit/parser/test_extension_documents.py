# SPDX-License-Identifier: Apache-2.0
"""The documents that handlers come with and leave: read for what they are, or refused by their place."""

import json
from pathlib import Path
from typing import Any

import pytest

from ipc.errors import InputError
from ipc.messages import ExtensionPolicyFile, HandlerManifest, Heartbeat, PackageChoice, PolicyEntry, ServiceLimits
from tests.unit.parser.conftest import Vector
from workers.parser import extension_policy, handler_manifest, heartbeat, package_manifest
from workers.parser.told import TRUNCATED

SAMPLES = Path(__file__).resolve().parents[2] / "data"
PLACE = "https://one.blob.core.windows.net/p/Contoso.Backup__"


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


# --- a handler's manifest in storage ------------------------------------------------------------------------------


def offering(*versions: str, uris: str = "<Uri>https://a.example/p</Uri>") -> bytes:
    plugins = "".join(f"<Plugin><Version>{each}</Version><Uris>{uris}</Uris></Plugin>" for each in versions)
    return f"<PluginVersionManifest><Plugins>{plugins}</Plugins></PluginVersionManifest>".encode()


@pytest.mark.parametrize(
    ("wanted", "version"),
    [("1.0.0", "1.0.0"), ("1.2.3", "1.2.3.4"), ("1.2", "1.2.3.4"), ("1", "1.10.0"), ("1.2.3.4", "1.2.3.4")],
)
def test_the_highest_version_that_matches_is_chosen(wanted: str, version: str) -> None:
    found = package_manifest.parse(sample("package-manifest/host.xml"), wanted)
    assert (found.version, found.problem) == (version, "")
    assert found.uris[0].endswith(f"__{version}.zip")


@pytest.mark.parametrize(
    ("wanted", "offered", "version"),
    [
        ("1.0", ("1.0.3", "1.0.0"), "1.0.3"), ("1.0.0", ("1.0",), ""), ("1.1", ("1.10",), ""),
        ("1", ("1.9", "1.10"), "1.10"), ("01", ("1.5",), "1.5"),
        ("1.0", ("x", "1.0.x", "1.0-rc", "1..0", "", "1.0.0.0.0", "9" * 40), ""),
    ],
)  # fmt: skip
def test_versions_match_by_their_leading_components(wanted: str, offered: tuple[str, ...], version: str) -> None:
    found = package_manifest.parse(offering(*offered), wanted)
    assert found.version == version
    assert bool(found.problem) == (not version)


def test_all_places_of_a_version_are_told_with_their_queries() -> None:
    exact = sample("package-manifest/host.xml").replace(b"1.2.3.4", b"9.9.9.9")
    assert package_manifest.parse(exact, "1.2.3").uris == (
        f"{PLACE}1.2.3.zip?sv=1&sig=Tr0ub4dor", "https://two.blob.core.windows.net/p/Contoso.Backup__1.2.3.zip",
    )  # fmt: skip
    many = "".join(f"<Uri>https://a.example/{number}</Uri>" for number in range(40))
    many = f"<Uri/><Uri>{'u' * 5000}</Uri>{many}{many}"
    assert package_manifest.parse(offering("1.0", uris=many), "1.0").uris == tuple(
        f"https://a.example/{number}" for number in range(32)
    )


def test_what_is_not_offered_is_told_with_what_is() -> None:
    found = package_manifest.parse(sample("package-manifest/host.xml"), "1.2.4")
    assert found == PackageChoice("", (), "no version matches 1.2.4: there are 2.0, 1.10.0, 1.2.3.4, 1.2.3, 1.0.0")
    assert package_manifest.parse(sample("package-manifest/host.xml"), "2").problem == (
        "version 2.0 has no Uri that could be asked for"
    )
    assert "has none at all" in package_manifest.parse(b"<PluginVersionManifest/>", "1").problem
    many = package_manifest.parse(offering(*(f"1.{number}.999999999.999999999" for number in range(1000))), "2")
    assert many.problem.endswith("and 976 more")


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"", "document: is empty"),
        (b"<html><body>404</body></html>", "PluginVersionManifest: is not the document's root element"),
        (b"<PluginVersionManifest><Plugins>", "line 1"),
        (b"<!DOCTYPE a><PluginVersionManifest/>", "document type"),
        (b"\xff<PluginVersionManifest/>", "is not UTF-8"),
    ],
)
def test_a_manifest_that_is_none_is_refused(document: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        package_manifest.parse(document, "1.0")


def test_a_manifest_of_many_versions_and_regions_is_read() -> None:
    uris = "".join(f"<Uri>https://r{number}.blob.core.windows.net/p.zip</Uri>" for number in range(30))
    assert (
        package_manifest.parse(offering(*(f"1.{number}" for number in range(800)), uris=uris), "1").version == "1.799"
    )
    with pytest.raises(InputError, match="more than 32768 elements"):
        package_manifest.parse(offering(*(f"1.{number}" for number in range(9000))), "1")


# --- HandlerManifest.json -----------------------------------------------------------------------------------------

COMMANDS = {f"{name}Command": name for name in ("install", "enable", "update", "disable", "uninstall")}
PLAIN = HandlerManifest("install", "enable", "update", "disable", "uninstall")


def manifest(more: dict[str, Any] | None = None, **said: Any) -> HandlerManifest:
    return handler_manifest.parse(json.dumps([{"handlerManifest": {**COMMANDS, **said}, **(more or {})}]).encode())


def test_all_of_a_handler_manifest_is_read() -> None:
    assert handler_manifest.parse(sample("handler-manifest/all.json")) == HandlerManifest(
        install="bin/handler.sh install --quiet",
        enable="bin/handler.sh enable",
        update="bin/handler.sh update",
        disable="bin/handler.sh disable",
        uninstall="bin/handler.sh uninstall",
        reports_heartbeat=True,
        continues_on_update_failure=True,
        supports_multiple_extensions=False,
        installs_after_update=False,
        cpu_percent=25,
        memory_mib=300,
        signing_type="Backup",
        signing_publisher="Contoso",
        signing_version="1.2.3",
        services=(ServiceLimits("contoso.service", 5),),
    )
    for mark in (b"", b"\xef\xbb\xbf"):
        assert handler_manifest.parse(mark + sample("handler-manifest/least.json")) == PLAIN


@pytest.mark.parametrize(
    ("value", "flag", "warnings"),
    [
        (True, True, 0), (False, False, 0), ("true", True, 0), ("True", True, 0), ("false", False, 0),
        ("FALSE", False, 0), ("yes", False, 3), ("", False, 3), (1, False, 3), (0, False, 3),
        (None, False, 3), ([True], False, 3),
    ],
)  # fmt: skip
def test_a_flag_that_is_none_is_false_with_a_warning(value: Any, flag: bool, warnings: int) -> None:
    found = manifest(**dict.fromkeys(handler_manifest.FLAGS, value))
    told = (found.reports_heartbeat, found.continues_on_update_failure, found.supports_multiple_extensions)
    assert told == (flag,) * 3
    assert len(found.warnings) == warnings
    assert all(" counts as false" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("mode", "installs", "warnings"),
    [("UpdateWithInstall", True, 0), ("updatewithINSTALL", True, 0), ("UpdateWithoutInstall", False, 0), ("", False, 0),
     (None, True, 0), (7, True, 1)],
)  # fmt: skip
def test_update_mode(mode: Any, installs: bool, warnings: int) -> None:
    found = manifest(updateMode=mode)
    assert (found.installs_after_update, len(found.warnings)) == (installs, warnings)


def test_limits_and_signing_that_are_none_count_as_missing() -> None:
    values: tuple[Any, ...] = (0, -1, "25", True, [], 1 << 60, 0.5)
    for value in values:
        found = manifest({"resourceLimits": dict.fromkeys(handler_manifest.LIMITS, value)})
        assert (found.cpu_percent, found.memory_mib, len(found.warnings)) == (None, None, 2)
    named = [
        {"name": "vendor", "cpuQuotaPercentage": 5, "memoryQuotaInMB": 9}, {"name": "vendor.service"}, 7,
        {"name": "a/b"}, {"name": "agent-supervisor"}, {"name": "mdsd@1.service", "cpuQuotaPercentage": "no"},
    ]  # fmt: skip
    found = manifest({"resourceLimits": {"services": named}})
    assert found.services == (ServiceLimits("vendor.service", 5), ServiceLimits("mdsd@1.service"))
    assert len(found.warnings) == 2
    named = [{"name": f"s{number}", "cpuQuotaPercentage": 0} for number in range(17)]
    found = manifest({"resourceLimits": {"services": named, "memoryQuotaInMB": 0}})
    assert (len(found.services), len(found.warnings)) == (16, 3)
    assert manifest({"resourceLimits": {"services": {}}}).warnings == (
        "resourceLimits.services is no list: it counts as empty",
    )
    assert manifest({"resourceLimits": {"cpuQuotaPercentage": 150.0, "memoryQuotaInMB": None}}).cpu_percent == 150
    found = manifest({"resourceLimits": [], "signingInfo": "Contoso"})
    assert [warning.partition(" ")[0] for warning in found.warnings] == ["resourceLimits", "signingInfo"]
    found = manifest({"signingInfo": {"type": 7, "publisher": "p" * 5000, "version": None}})
    assert (found.signing_type, found.signing_publisher, found.signing_version, len(found.warnings)) == ("", "", "", 2)


def test_commands_are_command_lines() -> None:
    found = manifest(installCommand="//a b 'c'; d", enableCommand=None)
    assert (found.install, found.enable) == ("a b 'c'; d", "")


@pytest.mark.parametrize(
    ("document", "where"),
    [
        (b"", "document"), (b"{}", "document"), (b"[]", "document"), (b"[7]", "[0]"), (b"[{}]", "[0].handlerManifest"),
        (b'[{"handlerManifest": null}]', "[0].handlerManifest"), (b'[{"handlerManifest": {}}', "document"),
        (b'[{"handlerManifest": {"enableCommand": 7}}]', "handlerManifest.enableCommand"),
        (b'[{"handlerManifest": {"enableCommand": "a\\u0000b"}}]', "handlerManifest.enableCommand"),
        (b'[{"handlerManifest": {"updateCommand": "' + b"a" * 5000 + b'"}}]', "update"),
        (b'[{"handlerManifest": {"updateCommand": "\xff"}}]', "document"), (b"[" * 50_000, "document"),
    ],
)  # fmt: skip
def test_a_handler_manifest_that_is_none_is_refused_by_the_place(document: bytes, where: str) -> None:
    with pytest.raises(InputError) as refused:
        handler_manifest.parse(document)
    assert refused.value.where == where


# --- a handler's heartbeat ----------------------------------------------------------------------------------------


def test_a_heartbeat() -> None:
    found = heartbeat.parse(sample("heartbeat/all.json"))
    told = "waiting for https://store.blob.core.windows.net/q?<redacted>"
    assert found == Heartbeat("NotReady", 5, told)
    assert heartbeat.parse(sample("heartbeat/least.json")) == Heartbeat("Ready", 0, "")
    long = {"status": "Ready", "formattedMessage": {"lang": "en", "message": "x" * 50_000}}
    found = heartbeat.parse(json.dumps([{"heartbeat": long}]).encode())
    assert len(found.message) == 10 * 1024
    assert found.message.endswith(TRUNCATED)


@pytest.mark.parametrize(
    ("document", "where"),
    [
        (b"", "document"), (b"[]", "document"), (b"{}", "document"), (b"[{}]", "document"),
        (b'[{"heartbeat": 7}]', "document"), (b'[{"heartbeat": {"code": 0}}]', "heartbeat.status"),
        (b'[{"heartbeat": {"status": 7}}]', "heartbeat.status"), (b'[{"heartbeat": {"status": "Ready"', "document"),
        (b'[{"heartbeat": {"status": "Ready", "formattedMessage": {"lang": "en"}}}]',
         "heartbeat.formattedMessage.message"),
        (b'[{"heartbeat": {"status": "Ready", "formattedMessage": "all well"}}]', "heartbeat.formattedMessage"),
    ],
)  # fmt: skip
def test_a_heartbeat_that_is_none_is_refused_by_the_place(document: bytes, where: str) -> None:
    with pytest.raises(InputError) as refused:
        heartbeat.parse(document)
    assert refused.value.where == where


# --- waagent's policy file ----------------------------------------------------------------------------------------


def policy(**said: Any) -> ExtensionPolicyFile:
    return extension_policy.parse(json.dumps({"policyVersion": "0.1.0", **said}).encode())


def test_a_policy_file() -> None:
    entries = (PolicyEntry("Contoso.Backup", signature_required=False), PolicyEntry("contoso.RunCommand"))
    assert extension_policy.parse(sample("extension-policy/all.json")) == ExtensionPolicyFile(
        "0.1.0", listed_only=True, signature_required=True, entries=entries
    )
    for version in ("0", "0.0", "0.1", "0.0.9", "0.1.0"):
        assert policy(policyVersion=version) == ExtensionPolicyFile(
            version, listed_only=False, signature_required=False, entries=()
        )


@pytest.mark.parametrize(
    ("document", "where"),
    [
        (b"", "document"), (b"[]", "document"), (b"{", "document"), (b"{}", "document"),
        (b'{"policyVersion": "0.1.0",}', "document"),
        ({"policyVersion": 0.1}, "policyVersion"), ({"policyVersion": None}, "policyVersion"),
        ({"policyVersion": "0.1.1"}, "policyVersion"), ({"policyVersion": "1"}, "policyVersion"),
        ({"policyVersion": ""}, "policyVersion"), ({"policyVersion": "0.1.0.0"}, "policyVersion"),
        ({"policyVersion": " 0.1.0"}, "policyVersion"), ({"policyVersion": "0.1\n"}, "policyVersion"),
        ({"other": 1}, "document"), ({"extensionPolicies": None}, "extensionPolicies"),
        ({"extensionPolicies": {"allowListedExtensionsOnly": "true"}}, "extensionPolicies.allowListedExtensionsOnly"),
        ({"extensionPolicies": {"allowListedExtensionsOnly": None}}, "extensionPolicies.allowListedExtensionsOnly"),
        ({"extensionPolicies": {"signatureRequired": 1}}, "extensionPolicies.signatureRequired"),
        ({"extensionPolicies": {"signaturerequired": True}}, "extensionPolicies"),
        ({"extensionPolicies": {"extensions": ["A.B"]}}, "extensionPolicies.extensions"),
        ({"extensionPolicies": {"extensions": {"A.B": None}}}, "extensionPolicies.extensions[...]"),
        ({"extensionPolicies": {"extensions": {"A.B": {"signatureRequired": None}}}},
         "extensionPolicies.extensions[...].signatureRequired"),
        ({"extensionPolicies": {"extensions": {"A.B": {"allowed": True}}}}, "extensionPolicies.extensions[...]"),
        ({"extensionPolicies": {"extensions": {"A.B": {}, "a.b": {}}}}, "extensionPolicies.extensions"),
        ({"extensionPolicies": {"extensions": {f"A.{number}": {} for number in range(1025)}}}, "document"),
    ],
)  # fmt: skip
def test_a_policy_that_is_not_understood_is_refused_by_the_place(document: Any, where: str) -> None:
    written = document if isinstance(document, bytes) else json.dumps({"policyVersion": "0.1.0", **document}).encode()
    with pytest.raises(InputError) as refused:
        extension_policy.parse(written)
    assert refused.value.where == where


# --- payloads that others made ------------------------------------------------------------------------------------


def test_manifests_of_others(vector: Vector) -> None:
    found = package_manifest.parse(vector("wire/manifest.xml"), "1.0")
    assert (found.version, found.uris[0].rpartition("__")[2]) == ("1.0.0", "1.0.0")
    assert package_manifest.parse(vector("wire/manifest.xml"), "3").version.startswith("3.")
    assert package_manifest.parse(vector("wire/manifest_vm_access.xml"), "1.7.0").version == "1.7.0"
    sound = handler_manifest.parse(vector("extensions/handler_manifest/manifest_boolean_fields_false.json"))
    assert (sound.install, sound.reports_heartbeat, sound.warnings) == ("install_cmd", False, ())
    invalid = handler_manifest.parse(vector("extensions/handler_manifest/manifest_boolean_fields_invalid.json"))
    assert (invalid.supports_multiple_extensions, len(invalid.warnings)) == (False, 3)
