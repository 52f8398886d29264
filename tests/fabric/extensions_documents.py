# SPDX-License-Identifier: Apache-2.0
"""Owns a plan in its two written forms: ExtensionsConfig (wire-protocol.md 6) and vmSettings (hostga-plugin.md 5.5).

Runs in test processes. It gets settled plans (plan.settled) and writes what they say, broken entries as broken.
"""

import json
from collections.abc import Iterator
from typing import Any
from uuid import NAMESPACE_URL, uuid5
from xml.sax.saxutils import escape, quoteattr

from tests.fabric.plan import Family, Plan, Plugin, Settings

PLUGIN_VERSION = "1.0.8.177"
_UNIX_EPOCH_TICKS = 621_355_968_000_000_000
ACTIVITY, CORRELATION = (str(uuid5(NAMESPACE_URL, name)) for name in ("activityId", "correlationId"))


def ticks(created: float | None) -> int:
    """Seconds since 1970 as the host writes them: 100 ns since the year 1."""
    return _UNIX_EPOCH_TICKS + int((created or 0.0) * 10_000_000)


def extensions_xml(plan: Plan, incarnation: int) -> str:
    """ExtensionsConfig."""
    features = "".join(f"<RequiredFeature><Name>{escape(name)}</Name></RequiredFeature>" for name in plan.features)
    blob = f"<StatusUploadBlob statusBlobType={quoteattr(plan.blob_kind)}>{escape(plan.status_blob or '')}"
    profile = f'<InVMArtifactsProfileBlob statusBlobType="BlockBlob">{escape(plan.profile_blob)}'
    sequence = incarnation if plan.sequence is None else plan.sequence
    families = "".join(map(_family_xml, plan.families))
    parts = (
        f'<Extensions version="1.0.0.0" goalStateIncarnation="{incarnation}">',
        '<GuestAgentExtension xmlns:i="http://www.w3.org/2001/XMLSchema-instance">',
        f"<GAFamilies>{families}</GAFamilies></GuestAgentExtension>"
        if families
        else "<GAFamilies /></GuestAgentExtension>",
        f"<RequiredFeatures>{features}</RequiredFeatures>" if features else "",
        _listed("Plugins", "".join(map(_plugin_xml, plan.plugins))),
        _listed("PluginSettings", "".join(text for plugin in plan.plugins for text in _settings_nodes(plugin))),
        f"{blob}</StatusUploadBlob>" if plan.status_blob else "",
        f"{profile}</InVMArtifactsProfileBlob>" if plan.profile_blob else "",
        f'<InVMGoalStateMetaData inSvdSeqNo="{sequence}" createdOnTicks="{ticks(plan.created)}"'
        f' activityId="{ACTIVITY}" correlationId="{CORRELATION}" />',
        "</Extensions>",
    )
    return "".join(parts)


def vm_settings_json(plan: Plan, source: str, sequence: int, plugin_version: str = PLUGIN_VERSION) -> str:
    """vmSettings, by `source`: Fabric or FastTrack."""
    told: dict[str, Any] = {
        "hostGAPluginVersion": plugin_version,
        "vmSettingsSchemaVersion": "0.0",
        "activityId": ACTIVITY,
        "correlationId": CORRELATION,
        "inSvdSeqNo": sequence if plan.sequence is None else plan.sequence,
        "extensionsLastModifiedTickCount": ticks(plan.created),
        "extensionGoalStatesSource": source,
        "onHold": plan.on_hold,
        "statusUploadBlob": {"statusBlobType": plan.blob_kind, "value": plan.status_blob},
        "inVMMetadata": {"vmName": "vm", "location": "emulated", "osType": "Linux"},
        "requiredFeatures": [{"name": name} for name in plan.features],
        "gaFamilies": list(map(_family_json, plan.families)),
        "extensionGoalStates": list(map(_plugin_json, plan.plugins)),
    }
    if not plan.status_blob:
        del told["statusUploadBlob"]
    return json.dumps(told, indent=1)


def _listed(name: str, content: str) -> str:
    return f"<{name}>{content}</{name}>" if content else f"<{name} />"


def _family_xml(family: Family) -> str:
    said = {
        "Version": family.version,
        "FromVersion": family.from_version,
        "IsVersionFromRSM": _word(family.is_from_rsm),
        "IsVMEnabledForRSMUpgrades": _word(family.is_enabled_for_rsm),
    }
    more = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in said.items() if text is not None)
    uris = "".join(f"<Uri>{escape(uri)}</Uri>" for uri in family.uris)
    return f"<GAFamily><Name>{escape(family.name)}</Name>{more}<Uris>{uris}</Uris></GAFamily>"


def _word(value: bool | None) -> str | None:
    return None if value is None else str(value)


def _plugin_xml(plugin: Plugin) -> str:
    location, failover, *others = (*plugin.locations, "")[: max(2, len(plugin.locations))]
    attributes = {
        "name": plugin.name,
        "version": plugin.version,
        "location": location,
        "config": "",
        "state": "" if plugin.broken == "empty-state" else plugin.state,
        "autoUpgrade": "true",
        "failoverlocation": failover,
        "runAsStartupTask": "false",
        "isJson": "true",
        "useExactVersion": "true",
    }
    if plugin.signature:
        attributes["encodedSignature"] = plugin.signature
    told = " ".join(f"{name}={quoteattr(value)}" for name, value in attributes.items())
    if not others:
        return f"<Plugin {told} />"
    places = "".join(f"<additionalLocation>{escape(place)}</additionalLocation>" for place in others)
    return f"<Plugin {told}><additionalLocations>{places}</additionalLocations></Plugin>"


def _settings_nodes(plugin: Plugin) -> Iterator[str]:
    """The elements of PluginSettings for one plugin: one, none without settings, more when it is broken so."""
    if not plugin.settings:
        return
    version = "9.9.9" if plugin.broken == "version-mismatch" else plugin.version
    content = "".join(_dependencies(plugin)) + "".join(_runtime_settings(plugin))
    node = f"<Plugin name={quoteattr(plugin.name)} version={quoteattr(version)}>{content}</Plugin>"
    yield node
    if plugin.broken == "two-settings-nodes":
        yield node


def _dependencies(plugin: Plugin) -> Iterator[str]:
    for settings in plugin.settings:
        if settings.level is None:
            continue
        name = f" name={quoteattr(settings.name)}" if plugin.is_multi else ""
        told = (
            f'<DependsOn dependencyLevel="{settings.level}"{name}>'
            '<DependsOnExtension handler="Other.Handler" /></DependsOn>'
        )
        yield told * (2 if plugin.broken == "two-dependencies" else 1)


def _runtime_settings(plugin: Plugin) -> Iterator[str]:
    for settings in plugin.settings:
        text = escape(_settings_text(settings, plugin.broken))
        sequence = "" if plugin.broken == "no-sequence" else f' seqNo="{settings.sequence}"'
        single = f"<RuntimeSettings{sequence}>{text}</RuntimeSettings>"
        named = f" name={quoteattr(settings.name or 'one')} state={quoteattr(settings.state)}"
        several = f"<ExtensionRuntimeSettings{sequence}{named}>{text}</ExtensionRuntimeSettings>"
        yield several if plugin.is_multi else single
        if plugin.broken == "two-runtime-settings":
            yield single
        if plugin.broken == "both-kinds":
            yield single if plugin.is_multi else several


def _settings_text(settings: Settings, broken: str) -> str:
    text = json.dumps({"runtimeSettings": [{"handlerSettings": settings.handler_settings()}]})
    return text[:-2] if broken == "bad-json" else text


def _family_json(family: Family) -> dict[str, Any]:
    said = {
        "name": family.name,
        "version": family.version,
        "fromVersion": family.from_version,
        "isVersionFromRSM": family.is_from_rsm,
        "isVMEnabledForRSMUpgrades": family.is_enabled_for_rsm,
        "uris": list(family.uris),
    }
    return {name: value for name, value in said.items() if value is not None}


def _plugin_json(plugin: Plugin) -> dict[str, Any]:
    location, failover, *others = (*plugin.locations, "")[: max(2, len(plugin.locations))]
    told: dict[str, Any] = {
        "name": plugin.name,
        "version": plugin.version,
        "location": location,
        "failoverlocation": failover,
        "additionalLocations": others,
        "state": plugin.state,
        "autoUpgrade": True,
        "runAsStartupTask": False,
        "isJson": True,
        "useExactVersion": True,
        "settingsSeqNo": plugin.settings[0].sequence if plugin.settings else 0,
        "isMultiConfig": plugin.is_multi,
        "settings": [_settings_json(settings, plugin) for settings in plugin.settings],
    }
    if plugin.signature:
        told["encodedSignature"] = plugin.signature
    levels = [_dependency_json(settings, plugin) for settings in plugin.settings if settings.level is not None]
    return told | ({"dependsOn": levels} if levels else {})


def _settings_json(settings: Settings, plugin: Plugin) -> dict[str, Any]:
    told = settings.handler_settings()
    # The settings themselves are text here.
    public = told.pop("publicSettings")
    if public is not None:
        told["publicSettings"] = json.dumps(public)
    if plugin.is_multi:
        told |= {"extensionName": settings.name, "seqNo": settings.sequence, "extensionState": settings.state}
    return told


def _dependency_json(settings: Settings, plugin: Plugin) -> dict[str, Any]:
    told: dict[str, Any] = {"DependsOnExtension": [{"handler": "Other.Handler"}], "dependencyLevel": settings.level}
    return told | ({"name": settings.name} if plugin.is_multi else {})
