# SPDX-License-Identifier: Apache-2.0
"""Owns ExtensionsConfig (wire-protocol.md 6): its bytes to a typed `ExtensionsGoalState`, a redacted copy, settings.

Runs in the parser. What is wrong with one handler is that handler's `problem`; only what concerns all is refused.
"""

from collections.abc import Iterator

import msgspec

from ipc.errors import InputError
from ipc.messages import AgentFamily, ExtensionSettings, ExtensionsGoalState, Plugin
from workers.parser import handlers, redaction, xml
from workers.parser.answer import fitting
from workers.parser.bounds import MAX_EXTENSIONS_BYTES
from workers.parser.json_document import decode
from workers.parser.settings_bundle import HandlerSettings, SettingsBundle

SINGLE, MULTI = redaction.SETTINGS


class _Entry(msgspec.Struct, rename="camel"):
    handler_settings: HandlerSettings


class _RuntimeSettings(msgspec.Struct, rename="camel"):
    runtime_settings: list[_Entry]


def parse(document: bytes) -> tuple[ExtensionsGoalState, bytes, bytes]:
    """The message, the copy, and what the message's spans are parts of. Raises InputError that names the element, or
    the line and column."""
    source = xml.as_utf8(document, MAX_EXTENSIONS_BYTES)
    root = xml.parse(source, namespaces=False)
    if root.name != "Extensions":
        raise InputError("Extensions", "is not the document's root element")
    status, facts = root.first("StatusUploadBlob"), root.first("InVMGoalStateMetaData")
    said = {} if facts is None else facts.attributes
    bundle = SettingsBundle()
    message = ExtensionsGoalState(
        source="Fabric",
        created=handlers.created(said.get("createdOnTicks")),
        in_svd_sequence_number=said.get("inSvdSeqNo", ""),
        activity_id=said.get("activityId") or handlers.NO_ID,
        correlation_id=said.get("correlationId") or handlers.NO_ID,
        on_hold=False,
        status_blob=handlers.blob(_text(status), "" if status is None else status.attributes.get("statusBlobType", "")),
        profile_url=_text(root.first("InVMArtifactsProfileBlob")),
        required_features=tuple(_features(root.first("RequiredFeatures"))),
        families=tuple(map(_family, _children(root.first("GAFamilies"), "GAFamily"))),
        plugins=_plugins(root, bundle),
    )
    return fitting(message), redaction.of_xml(source, root, set()), bundle.content


def _text(node: xml.Element | None) -> str:
    return "" if node is None else (node.text or "").strip()


def _children(node: xml.Element | None, name: str) -> list[xml.Element]:
    return [] if node is None else list(node.below(name))


def _features(node: xml.Element | None) -> Iterator[str]:
    for feature in _children(node, "RequiredFeature"):
        yield from map(_text, feature.below("Name"))


def _family(node: xml.Element) -> AgentFamily:
    return AgentFamily(
        name=_text(node.first("Name")),
        version=_text(node.first("Version")),
        from_version=_text(node.first("FromVersion")),
        is_version_from_rsm=_flag(node.first("IsVersionFromRSM")),
        is_vm_enabled_for_rsm_upgrades=_flag(node.first("IsVMEnabledForRSMUpgrades")),
        uris=tuple(uri for uri in map(_text, _children(node.first("Uris"), "Uri")) if uri),
    )


def _flag(node: xml.Element | None) -> bool | None:
    return None if node is None else _text(node).lower() == "true"


def _plugins(root: xml.Element, bundle: SettingsBundle) -> tuple[Plugin, ...]:
    nodes, settings = _children(root.first("Plugins"), "Plugin"), _children(root.first("PluginSettings"), "Plugin")
    handlers.check_count(max(len(nodes), len(settings)))
    by_name: dict[str, list[xml.Element]] = {}
    for node in settings:
        by_name.setdefault(node.attributes.get("name", "").lower(), []).append(node)
    return handlers.each_once(
        _plugin(node, by_name.get(node.attributes.get("name", "").lower(), []), bundle) for node in nodes
    )


def _plugin(node: xml.Element, settings: list[xml.Element], bundle: SettingsBundle) -> Plugin:
    said = node.attributes
    name, version = said.get("name", ""), said.get("version", "")
    more = map(_text, _children(node.first("additionalLocations"), "additionalLocation"))
    problem, own_settings, signature = "", tuple[ExtensionSettings, ...](), said.get("encodedSignature", "")
    try:
        own_settings = _all_settings(version, said.get("state", "").lower(), settings, bundle)
    except InputError as error:
        problem = str(error)
    return handlers.usable(
        Plugin(
            name=name,
            version=version,
            state=said.get("state", "").lower(),
            is_signed=bool(signature),
            locations=tuple(url for url in (said.get("location"), said.get("failoverlocation"), *more) if url),
            is_multi_config=any(element.first(MULTI) for element in settings),
            settings=own_settings,
            problem=problem,
            signature=bundle.add_signature(signature),
        )
    )


def _all_settings(
    version: str, state: str, nodes: list[xml.Element], bundle: SettingsBundle
) -> tuple[ExtensionSettings, ...]:
    """The settings of one handler. Raises InputError for what makes it unusable."""
    if any(node.attributes.get("version", "") != version for node in nodes):
        raise InputError("PluginSettings/Plugin version", "is another than the handler's")
    if len(nodes) > 1:
        raise InputError("PluginSettings", f"has {len(nodes)} entries for this handler")
    single = [each for node in nodes for each in node.below(SINGLE)]
    multi = [each for node in nodes for each in node.below(MULTI)]
    depends = [each for node in nodes for each in node.below("DependsOn")]
    if single and multi:
        raise InputError("PluginSettings/Plugin", f"has both {SINGLE} and {MULTI}")
    if len(single) > 1:
        raise InputError("PluginSettings/Plugin", f"has {len(single)} times {SINGLE}")
    if multi:
        return _multi_config(multi, depends, bundle)
    if single and len(depends) > 1:
        raise InputError("DependsOn", "is there more than once")
    level = handlers.level(depends[0].attributes.get("dependencyLevel")) if depends else 0
    state = "disabled" if state == "disabled" else "enabled"
    return tuple(_settings(node, "", state, level, bundle) for node in single)


def _multi_config(
    nodes: list[xml.Element], depends: list[xml.Element], bundle: SettingsBundle
) -> tuple[ExtensionSettings, ...]:
    levels: dict[str, int] = {}
    for node in depends:
        name = node.attributes.get("name")
        if not name:
            raise InputError("DependsOn", "has no name, and more than one extension is there")
        if name in levels:
            raise InputError("DependsOn", "is there twice for one extension")
        levels[name] = handlers.level(node.attributes.get("dependencyLevel"))
    found = []
    for node in nodes:
        name, state = node.attributes.get("name", ""), node.attributes.get("state", "enabled").lower()
        if not name:
            raise InputError(MULTI, "has no name")
        if state not in ("enabled", "disabled"):
            raise InputError(f"{MULTI} state", "is neither enabled nor disabled")
        found.append(_settings(node, name, state, levels.get(name, 0), bundle))
    return tuple(found)


def _settings(node: xml.Element, name: str, state: str, level: int, bundle: SettingsBundle) -> ExtensionSettings:
    sequence = handlers.number(node.attributes.get("seqNo", ""))
    if sequence is None:
        raise InputError(f"{node.name} seqNo", "is missing or no count")
    try:
        found = _handler_settings(node.text or "")
    except InputError as error:
        return ExtensionSettings(name, sequence, state, level, "", f"its settings are unusable: {error}")
    thumbprint, problem = handlers.protection(
        msgspec.json.decode(found.protected_settings), msgspec.json.decode(found.protected_settings_cert_thumbprint)
    )
    return ExtensionSettings(name, sequence, state, level, thumbprint, problem, bundle.add_settings(found))


def _handler_settings(text: str) -> HandlerSettings:
    """What `text`, the JSON of one extension's settings, has for the handler."""
    if not text.strip():
        return HandlerSettings()
    entries = decode(text.encode(), _RuntimeSettings, MAX_EXTENSIONS_BYTES).runtime_settings
    if len(entries) != 1:
        raise InputError("runtimeSettings", "is no list of one with handlerSettings")
    return entries[0].handler_settings
