# SPDX-License-Identifier: Apache-2.0
"""Payloads that others made, real and realistic: each is read right or refused right, and its copy tells no secret."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from ipc.errors import InputError
from ipc.messages import ExtensionsGoalState
from workers.parser import (
    artifacts_profile,
    certificate_file,
    event_file,
    extensions_config,
    hosting_environment,
    instance_metadata,
    remote_access,
    vm_settings,
)
from workers.parser.redaction import MARK

Vector = Callable[[str], bytes]
TENANT = "F6ABAA61098A301EBB8A571C3C7CF77F355F7FA9"
# Payload -> per handler the end of its name, then (sequence number, level, thumbprint begins with) of each extension.
CONFIGS: dict[str, list[tuple[str, list[tuple[int, int, str]]]]] = {
    "wire/ext_conf.xml": [("ExampleHandlerLinux", [(0, 0, TENANT)])],
    "wire/ext_conf_additional_locations.xml": [("ExampleHandlerLinux", [(0, 0, TENANT)])],
    "wire/ext_conf_dependencies_with_empty_settings.xml": [
        ("OSTCExtensions.ExampleHandlerLinux", [(0, 1, TENANT)]), ("OtherExampleHandlerLinux", []),
    ],
    "wire/ext_conf_in_vm_artifacts_profile.xml": [("ExampleHandlerLinux", [(0, 0, TENANT)])],
    "wire/ext_conf_in_vm_metadata.xml": [("ExampleHandlerLinux", [(0, 0, TENANT)])],
    "wire/ext_conf_mc_update_extensions.xml": [
        ("ExampleHandlerLinux", [(1, 0, ""), (2, 0, ""), (99, 0, "")]), ("ExampleExtension", [(10, 0, "")]),
    ],
    "wire/ext_conf_multiple_extensions.xml": [
        ("OSTCExtensions.ExampleHandlerLinux", [(0, 0, TENANT)]), ("Powershell.ExampleExtension", [(0, 0, TENANT)]),
        ("Monitoring.ExampleHandlerLinux", [(0, 0, TENANT)]), ("Core.ExampleExtensionLinux", [(0, 0, TENANT)]),
        ("ExampleExtensionLinuxInTest", [(0, 0, "")]),
    ],
    "wire/ext_conf_multiple_settings_for_same_handler.xml": [("ExampleHandlerLinux", [])],
    "wire/ext_conf_no_extensions-block_blob.xml": [],
    "wire/ext_conf_no_extensions-page_blob.xml": [],
    "wire/ext_conf_no_public.xml": [("ExampleHandlerLinux", [(0, 0, TENANT)])],
    "wire/ext_conf_no_settings.xml": [("ExampleHandlerLinux", [])],
    "wire/ext_conf_required_features.xml": [("WithRequiredFeatures", [(0, 0, TENANT)])],
    "wire/ext_conf_rsm_version.xml": [("ExampleHandlerLinux", [(0, 0, TENANT)])],
    "wire/ext_conf_with_multi_config.xml": [
        ("RunCommandHandlerWindows", [(2, 0, ""), (2, 3, ""), (1, 4, "")]), ("AntimalwareConfiguration", [(1, 0, "")]),
        ("GenevaMonitoring", [(1, 0, "")]), ("CustomScriptExtension", [(2, 1, "")]),
        ("VMAccessAgent", [(1, 2, "EE22")]),
    ],
    "wire/ext_conf_with_multi_config_dependencies.xml": [
        ("ExampleHandlerLinux", [(2, 0, ""), (2, 2, ""), (1, 3, "")]), ("ExampleExtension", [(2, 1, "")]),
        ("GenevaMonitoring", [(1, 0, "")]),
    ],
}  # fmt: skip
TWIN = [
    ("AzureMonitorLinuxAgent", [(0, 0, TENANT)]), ("AzureSecurityLinuxAgent", [(0, 0, TENANT)]),
    ("CustomScript", [(0, 1, "")]), ("RunCommandHandlerLinux", [(0, 2, ""), (0, 1, ""), (0, 0, "")]),
]  # fmt: skip
_SECRET = re.compile(rb"sig=|\"protectedSettings\"\s*:\s*\"MII", re.IGNORECASE)


def told(found: ExtensionsGoalState, expected: list[tuple[str, list[tuple[int, int, str]]]]) -> None:
    """The handlers are these."""
    assert len(found.plugins) >= len(expected)
    for plugin, (name, settings) in zip(found.plugins, expected, strict=False):
        assert plugin.name.endswith(name)
        assert len(plugin.settings) == len(settings)
        for each, (sequence, level, thumbprint) in zip(plugin.settings, settings, strict=True):
            assert (each.sequence_number, each.dependency_level, each.problem) == (sequence, level, "")
            assert each.thumbprint.startswith(thumbprint)
            assert bool(each.thumbprint) == bool(thumbprint)


@pytest.mark.parametrize("name", CONFIGS)
def test_extensions_configs(vector: Vector, name: str) -> None:
    document = vector(name)
    found, copy, _ = extensions_config.parse(document)
    told(found, CONFIGS[name])
    assert len(found.plugins) == len(CONFIGS[name])
    assert not _SECRET.search(copy)
    assert (MARK.encode() in copy) == bool(_SECRET.search(document))


def test_what_single_extensions_configs_are_about(vector: Vector) -> None:
    def of(name: str) -> ExtensionsGoalState:
        return extensions_config.parse(vector(f"wire/ext_conf{name}.xml"))[0]

    assert of("").plugins[0].is_signed
    assert len(of("_additional_locations").plugins[0].locations) == 4
    assert of("_in_vm_artifacts_profile").profile_url.endswith("&sp=r")
    metadata = of("_in_vm_metadata")
    assert (metadata.created, metadata.in_svd_sequence_number) == ("2020-11-09T17:48:50.412123Z", "2")
    assert metadata.activity_id == "555e551c-600e-4fb4-90ba-8ab8ec28eccc"
    assert [each.state for each in of("_mc_update_extensions").plugins[0].settings] == [
        "disabled",
        "disabled",
        "enabled",
    ]
    assert "2 entries" in of("_multiple_settings_for_same_handler").plugins[0].problem
    page = of("_no_extensions-page_blob")
    assert (page.status_blob.kind, page.status_blob.url) == ("PageBlob", "http://sas_url")
    assert of("_required_features").required_features == tuple(f"TestRequiredFeature{number}" for number in (1, 2, 3))
    family = of("_rsm_version").families[0]
    assert (family.version, family.is_version_from_rsm, family.is_vm_enabled_for_rsm_upgrades) == (
        "9.9.9.10",
        True,
        True,
    )


def test_both_twins_say_the_same(vector: Vector) -> None:
    fabric, *_ = extensions_config.parse(vector("hostgaplugin/ext_conf.xml"))
    fast, copy, _ = vm_settings.parse(vector("hostgaplugin/vm_settings.json"))
    told(fabric, TWIN)
    told(fast.goal_state, TWIN)
    assert [each.name for each in fabric.plugins] == [each.name for each in fast.goal_state.plugins]
    assert (fast.plugin_version, fast.goal_state.source, fast.goal_state.on_hold) == ("1.0.8.133", "FastTrack", True)
    assert fast.goal_state.created > fabric.created
    assert not _SECRET.search(copy)


def test_the_other_vm_settings(vector: Vector) -> None:
    def of(name: str) -> Any:
        return vm_settings.parse(vector(f"hostgaplugin/vm_settings-{name}.json"))[0]

    assert of("agent_family_version").goal_state.families[0].version == "9.9.9.9"
    assert of("difference_in_required_features").goal_state.required_features[0].startswith("A_NON_EXISTING")
    assert of("no_status_upload_blob").goal_state.status_blob.url == ""
    assert of("unsupported_version").plugin_version == "1.0.8.116"
    with pytest.raises(InputError, match=r"document: is no JSON: .*\(byte 73\)"):
        of("parse_error")


def test_certificates(vector: Vector) -> None:
    for name, incarnation in (("certs", "1"), ("certs_no_format_specified", "1"), ("incorrect-certs", "5")):
        message, der = certificate_file.parse(vector(f"wire/{name}.xml"))
        assert (message.incarnation, message.skipped) == (incarnation, "")
        assert der[:4] == b"\x30\x82" + (len(der) - 4).to_bytes(2, "big")
    message, der = certificate_file.parse(vector("wire/certs_format_not_pfx.xml"))
    assert (message.skipped, der) == ("CertificatesNonPfxPackage", b"")


def test_the_smaller_documents(vector: Vector) -> None:
    environment = hosting_environment.parse(vector("wire/hosting_env.xml"))
    assert (environment.vm_name, environment.role_name) == ("MachineRole_IN_0", "MachineRole")
    assert environment.deployment_name == "db00a7755a5e4e8a8fe4b19bc3b330c3"
    assert artifacts_profile.parse(vector("wire/in_vm_artifacts_profile.json")).on_hold
    metadata = instance_metadata.parse(vector("imds/valid.json"))
    assert (metadata.location, metadata.image_origin, metadata.is_whole) == ("westus", 2, True)
    for name, count in (("single_account", 1), ("two_accounts", 2)):
        users = remote_access.parse(vector(f"wire/remote_access_{name}.xml")).users
        assert len(users) == count
        assert all(user.name.startswith("testAccount") and "Expiration" in user.problem for user in users)


def test_files_of_events(vector: Vector) -> None:
    def of(name: str) -> Any:
        return event_file.parse(vector(f"telemetry/{name}.json"))

    assert len(of("well_formed_files/9999999999").events) == 8
    for name in ("well_formed_files/1591905451", "well_formed_files/1592355539", "large_messages/1591921510"):
        assert of(name).events
        assert all(len(event.message) <= 3072 for event in of(name).events)
    missing = of("missing_parameters/1592273793")
    assert missing.events == ()
    assert {each.reason: each.count for each in missing.dropped} == {
        "message: is missing": 2, "eventpid: is missing": 2, "version: is missing": 3,
    }  # fmt: skip
