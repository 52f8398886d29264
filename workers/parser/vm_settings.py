# SPDX-License-Identifier: Apache-2.0
"""Owns vmSettings (hostga-plugin.md 5.5): its bytes to a typed `VmSettings`, a redacted copy, settings.

Runs in the parser. Keys count in any case. What breaks the structure refuses the document as a whole; what is wrong
with a handler's name or version is that handler's `problem`, as in ExtensionsConfig.
"""

from typing import Any

import msgspec

from ipc.errors import InputError
from ipc.messages import AgentFamily, ExtensionSettings, ExtensionsGoalState, Plugin, Span, VmSettings
from ipc.messages.host_documents import Source
from workers.parser import handlers, redaction
from workers.parser.answer import fitting
from workers.parser.bounds import MAX_EXTENSIONS_BYTES
from workers.parser.json_document import UTF8_MARK, decode, lowered, typed
from workers.parser.settings_bundle import NULL, HandlerSettings, SettingsBundle

# As the reference takes a version that is not there: older than any that counts.
NO_VERSION = "0.0.0.0"  # noqa: S104 - a version, not an address


class _Blob(msgspec.Struct):
    value: str
    statusblobtype: str | None = None


class _Feature(msgspec.Struct):
    name: str


class _Family(msgspec.Struct):
    name: str
    version: str | None = None
    fromversion: str | None = None
    isversionfromrsm: bool | None = None
    isvmenabledforrsmupgrades: bool | None = None
    uris: list[str] | None = None


class _Settings(msgspec.Struct):
    publicsettings: str | None = None
    protectedsettings: str | None = None
    protectedsettingscertthumbprint: str | None = None
    extensionname: str | None = None
    seqno: int | str | None = None
    extensionstate: str | None = None


class _Dependency(msgspec.Struct):
    dependencylevel: int | str | None = None
    name: str | None = None


class _Handler(msgspec.Struct):
    name: str
    version: str
    state: str
    encodedsignature: str | None = None
    location: str | None = None
    failoverlocation: str | None = None
    additionallocations: list[str] | None = None
    ismulticonfig: bool | None = None
    settingsseqno: int | str | None = None
    settings: list[_Settings] | None = None
    dependson: list[_Dependency] | None = None


class _Document(msgspec.Struct):
    hostgapluginversion: str = NO_VERSION
    vmsettingsschemaversion: str = NO_VERSION
    activityid: str | None = None
    correlationid: str | None = None
    insvdseqno: int | str | None = None
    extensionslastmodifiedtickcount: int | str | None = None
    extensiongoalstatessource: str | None = None
    onhold: bool | str | None = None
    statusuploadblob: _Blob | None = None
    requiredfeatures: list[_Feature] | None = None
    gafamilies: list[_Family] | None = None
    extensiongoalstates: list[_Handler] | None = None


def parse(document: bytes) -> tuple[VmSettings, bytes, bytes]:
    """The message, the copy, and what the message's spans are parts of. Raises InputError that names the field."""
    tree = decode(document, Any, MAX_EXTENSIONS_BYTES)
    found = typed(lowered(tree), _Document)
    for version, where in (
        (found.hostgapluginversion, "hostGAPluginVersion"),
        (found.vmsettingsschemaversion, "vmSettingsSchemaVersion"),
    ):
        if not handlers.is_version(version):
            raise InputError(where, "is not numbers with dots between them")
    bundle = SettingsBundle()
    message = VmSettings(found.hostgapluginversion, found.vmsettingsschemaversion, _goal_state(found, bundle))
    return fitting(message), redaction.of_json(tree, set()), bundle.content


def _goal_state(found: _Document, bundle: SettingsBundle) -> ExtensionsGoalState:
    plugins = found.extensiongoalstates or []
    handlers.check_count(len(plugins))
    blob = found.statusuploadblob or _Blob("")
    return ExtensionsGoalState(
        source=_source(found.extensiongoalstatessource),
        created=handlers.created(found.extensionslastmodifiedtickcount),
        in_svd_sequence_number="" if found.insvdseqno is None else f"{found.insvdseqno}",
        activity_id=found.activityid or handlers.NO_ID,
        correlation_id=found.correlationid or handlers.NO_ID,
        on_hold=f"{found.onhold}".lower() == "true",
        status_blob=handlers.blob(blob.value, blob.statusblobtype or ""),
        profile_url="",
        required_features=tuple(feature.name for feature in found.requiredfeatures or ()),
        families=tuple(map(_family, found.gafamilies or ())),
        plugins=handlers.each_once(
            _plugin(plugin, f"extensionGoalStates[{at}]", bundle) for at, plugin in enumerate(plugins)
        ),
    )


def _source(text: str | None) -> Source:
    return next((source for source in handlers.SOURCES if source == text), "UNKNOWN")


def _family(family: _Family) -> AgentFamily:
    return AgentFamily(
        name=family.name,
        version=family.version or "",
        from_version=family.fromversion or "",
        is_version_from_rsm=family.isversionfromrsm,
        is_vm_enabled_for_rsm_upgrades=family.isvmenabledforrsmupgrades,
        uris=tuple(family.uris or ()),
    )


def _plugin(found: _Handler, where: str, bundle: SettingsBundle) -> Plugin:
    if found.state not in handlers.STATES:
        raise InputError(f"{where}.state", f"is none of {', '.join(handlers.STATES)}")
    settings = _multi_config if found.ismulticonfig else _single_config
    return handlers.usable(
        Plugin(
            name=found.name,
            version=found.version,
            state=found.state,
            is_signed=bool(found.encodedsignature),
            locations=tuple(
                url for url in (found.location, found.failoverlocation, *(found.additionallocations or ())) if url
            ),
            is_multi_config=found.ismulticonfig or False,
            settings=tuple(settings(found, where, bundle)),
            signature=bundle.add_signature(found.encodedsignature or ""),
        )
    )


def _single_config(found: _Handler, where: str, bundle: SettingsBundle) -> list[ExtensionSettings]:
    settings, depends = found.settings or [], found.dependson or []
    if len(settings) > 1:
        raise InputError(f"{where}.settings", f"has {len(settings)} entries, and the handler has one extension only")
    if settings and len(depends) > 1:
        raise InputError(f"{where}.dependsOn", f"has {len(depends)} entries, and the handler has one extension only")
    level = handlers.level(depends[0].dependencylevel) if depends else 0
    state = "disabled" if found.state == "disabled" else "enabled"
    return [
        ExtensionSettings(
            "",
            _sequence(found.settingsseqno, f"{where}.settingsSeqNo"),
            state,
            level,
            *_protected(each, f"{where}.settings[0]", bundle),
        )
        for each in settings
    ]


def _multi_config(found: _Handler, where: str, bundle: SettingsBundle) -> list[ExtensionSettings]:
    settings = found.settings or []
    names = {each.extensionname for each in settings}
    levels = {}
    for at, needed in enumerate(found.dependson or () if settings else ()):
        if not needed.name or needed.name not in names or needed.name in levels:
            raise InputError(f"{where}.dependsOn[{at}].name", "is not that of one of its extensions, each named once")
        levels[needed.name] = handlers.level(needed.dependencylevel)
    return [_extension(each, levels, f"{where}.settings[{at}]", bundle) for at, each in enumerate(settings)]


def _extension(found: _Settings, levels: dict[str, int], where: str, bundle: SettingsBundle) -> ExtensionSettings:
    name, state = found.extensionname, (found.extensionstate or "enabled").lower()
    if not name:
        raise InputError(f"{where}.extensionName", "is missing or empty")
    if state not in ("enabled", "disabled"):
        raise InputError(f"{where}.extensionState", "is neither enabled nor disabled")
    sequence = _sequence(found.seqno, f"{where}.seqNo")
    return ExtensionSettings(name, sequence, state, levels.get(name, 0), *_protected(found, where, bundle))


def _sequence(said: int | str | None, where: str) -> int:
    number = handlers.number(f"{said}")
    if number is None:
        raise InputError(where, "is missing or no count")
    return number


def _protected(found: _Settings, where: str, bundle: SettingsBundle) -> tuple[str, str, Span]:
    """The certificate's thumbprint, what is wrong with it, and the file; the public settings have to be JSON."""
    public = NULL
    if found.publicsettings is not None:
        public = found.publicsettings.encode()
        try:
            decode(public, Any, MAX_EXTENSIONS_BYTES)
        except InputError as error:
            raise InputError(f"{where}.publicSettings", error.problem) from None
    protected, thumbprint = found.protectedsettings, found.protectedsettingscertthumbprint
    if protected and thumbprint is None:
        raise InputError(f"{where}.protectedSettingsCertThumbprint", "is missing, and there are protected settings")
    written = (public.removeprefix(UTF8_MARK), msgspec.json.encode(protected), msgspec.json.encode(thumbprint))
    settings = HandlerSettings(*map(msgspec.Raw, written))
    return *handlers.protection(protected, thumbprint), bundle.add_settings(settings)
