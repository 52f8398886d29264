# SPDX-License-Identifier: Apache-2.0
"""ExtensionsConfig and vmSettings: the same plan is read of both; what is wrong stays with whom it concerns."""

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from ipc.codec import decode, encode
from ipc.errors import InputError
from ipc.messages import ExtensionSettings, ExtensionsGoalState, Plugin, Span, StatusBlob
from ipc.messages.host_documents import EARLIEST, MOST_PLUGINS
from workers.parser import extensions_config, vm_settings
from workers.parser.bounds import MAX_EXTENSIONS_BYTES
from workers.parser.handlers import NO_ID

SAMPLES = Path(__file__).resolve().parents[2] / "data"
XML = (SAMPLES / "extensions-config/all.xml").read_bytes()
JSON = (SAMPLES / "vm-settings/all.json").read_bytes()
THUMBPRINT = "F6ABAA61098A301EBB8A571C3C7CF77F355F7FA9"


def of_xml(document: bytes = XML) -> ExtensionsGoalState:
    return extensions_config.parse(document)[0]


def config(plugins: str = "", settings: str = "", more: str = "") -> ExtensionsGoalState:
    text = f"<Extensions><Plugins>{plugins}</Plugins><PluginSettings>{settings}</PluginSettings>{more}</Extensions>"
    return of_xml(text.encode())


def handler(settings: str = "", **attributes: str) -> Plugin:
    """One handler, with the settings of its PluginSettings."""
    said = {"name": "A.B", "version": "1.0", "state": "enabled", **attributes}
    text = " ".join(f'{name}="{value}"' for name, value in said.items())
    return config(f"<Plugin {text} />", settings).plugins[0]


def entry(content: str, name: str = "A.B", version: str = "1.0") -> str:
    return f'<Plugin name="{name}" version="{version}">{content}</Plugin>'


def runtime(content: Any = None, sequence: str = "1") -> str:
    body = {"runtimeSettings": [{"handlerSettings": {} if content is None else content}]}
    return f'<RuntimeSettings seqNo="{sequence}">{json.dumps(body)}</RuntimeSettings>'


def multi(name: str, sequence: str = "1", state: str = "enabled") -> str:
    return f'<ExtensionRuntimeSettings seqNo="{sequence}" name="{name}" state="{state}"/>'


@pytest.mark.parametrize("source", ["xml", "json"])
def test_of_two_handlers_of_one_name_the_second_is_a_problem(source: str) -> None:
    names = ("A.B", "C.D", "a.b")
    if source == "xml":
        found = config("".join(f'<Plugin name="{name}" version="1.0" state="enabled" />' for name in names)).plugins
    else:
        one = json.loads(JSON)["extensionGoalStates"][0]
        document = settings_having(extensionGoalStates=[{**one, "name": name} for name in names])
        found = vm_settings.parse(document)[0].goal_state.plugins
    assert [plugin.name for plugin in found] == list(names)
    assert ["has this name already" in plugin.problem for plugin in found] == [False, False, True]


def settings_having(**changes: Any) -> bytes:
    """The vmSettings with fields set anew; `...` leaves one out."""
    return json.dumps(
        {key: value for key, value in {**json.loads(JSON), **changes}.items() if value is not ...}
    ).encode()


def with_handler(**changes: Any) -> bytes:
    """vmSettings with one handler."""
    said = {"name": "A.B", "version": "1.0", "state": "enabled", "settingsSeqNo": 1, **changes}
    return settings_having(extensionGoalStates=[{key: value for key, value in said.items() if value is not ...}])


def without_files(goal_state: ExtensionsGoalState) -> ExtensionsGoalState:
    """What is said of the settings, wherever they are."""
    plugins = (
        replace(plugin, settings=tuple(replace(each, file=Span()) for each in plugin.settings))
        for plugin in goal_state.plugins
    )
    return replace(goal_state, plugins=tuple(replace(each, signature=Span()) for each in plugins))


def with_multi(settings: list[Any], depends_on: list[Any] | None = None) -> bytes:
    """The same with a handler of several extensions."""
    return with_handler(isMultiConfig=True, settings=settings, dependsOn=depends_on or [])


def test_both_sources_say_the_same() -> None:
    fabric = of_xml()
    settings, *_ = vm_settings.parse(JSON)
    assert (settings.plugin_version, settings.schema_version) == ("1.0.8.177", "0.0")
    expected = replace(fabric, source="FastTrack", on_hold=True, profile_url="")
    assert without_files(settings.goal_state) == without_files(expected)
    assert decode(encode(settings, 0)).message == settings


def test_all_of_an_extensions_config_is_read() -> None:
    found = of_xml()
    assert (found.created, found.in_svd_sequence_number) == ("2025-11-29T08:00:00.123456Z", "12")
    assert found.status_blob.url.endswith("?sv=2018-03-28&sr=b&sig=Tr0ub4dor%2fstatus%3d&sp=w")
    assert (found.status_blob.kind, found.required_features) == ("PageBlob", ("MultipleExtensionsPerHandler",))
    prod, test = found.families
    assert (prod.version, prod.from_version, prod.is_version_from_rsm, prod.is_vm_enabled_for_rsm_upgrades) == (
        "3.1.4", "3.0.0", True, False,
    )  # fmt: skip
    assert (test.name, test.is_version_from_rsm, test.is_vm_enabled_for_rsm_upgrades, test.uris) == (
        "Test",
        None,
        None,
        (),
    )
    backup, run, plain = found.plugins
    assert (backup.is_signed, [url.split("/")[2][:3] for url in backup.locations]) == (True, ["one", "two", "thr"])
    assert without_files(found).plugins[0].settings == (ExtensionSettings("", 7, "enabled", 2, THUMBPRINT),)
    assert run.is_multi_config
    assert without_files(found).plugins[1].settings == (
        ExtensionSettings("first", 0, "enabled", 1, ""), ExtensionSettings("second", 3, "disabled", 0, ""),
    )  # fmt: skip
    assert (plain.state, plain.settings, plain.problem) == ("uninstall", (), "")


def test_what_is_not_there_has_a_meaning() -> None:
    nothing = StatusBlob("", "BlockBlob")
    for found in (of_xml(b"<Extensions/>"), vm_settings.parse(b"{}")[0].goal_state):
        assert (found.created, found.activity_id, found.correlation_id) == (EARLIEST, NO_ID, NO_ID)
        assert (found.status_blob, found.in_svd_sequence_number, found.on_hold) == (nothing, "", False)
        assert (found.plugins, found.families, found.required_features) == ((), (), ())
    assert vm_settings.parse(b"\xef\xbb\xbf{}")[0].goal_state.source == "UNKNOWN"
    assert vm_settings.parse(b"{}")[0].plugin_version == "0.0.0.0"


@pytest.mark.parametrize("ticks", ["", "x", "-1", "9" * 19, "9" * 5000, "1.5"])
def test_ticks_that_are_none_are_the_earliest_time(ticks: str) -> None:
    assert config(more=f'<InVMGoalStateMetaData createdOnTicks="{ticks}"/>').created == EARLIEST
    assert vm_settings.parse(settings_having(extensionsLastModifiedTickCount=ticks))[0].goal_state.created == EARLIEST


@pytest.mark.parametrize("kind", ["", "AppendBlob", "blockblob"])
def test_a_kind_of_blob_that_is_none_is_a_block_blob(kind: str) -> None:
    assert config(more=f'<StatusUploadBlob statusBlobType="{kind}">u</StatusUploadBlob>').status_blob == StatusBlob(
        "u", "BlockBlob"
    )
    blob = {"statusBlobType": kind, "value": "u"}
    assert vm_settings.parse(settings_having(statusUploadBlob=blob))[0].goal_state.status_blob.kind == "BlockBlob"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (entry(runtime()) + entry(runtime()), "2 entries"),
        (entry(runtime(), version="1.1"), "another than the handler's"),
        (entry(runtime()) + entry(runtime(), "a.b", "2"), "another than the handler's"),
        (entry(runtime() + runtime()), "2 times RuntimeSettings"),
        (entry(runtime() + multi("x")), "has both"),
        (entry(runtime(sequence="")), "seqNo: is missing"),
        (entry(runtime(sequence="-1")), "seqNo"),
        (entry(runtime(sequence="9" * 30)), "seqNo"),
        (entry('<DependsOn dependencyLevel="1"/><DependsOn dependencyLevel="2"/>' + runtime()), "more than once"),
        (entry('<DependsOn dependencyLevel="1"/>' + multi("x")), "has no name"),
        (entry('<DependsOn name="x"/><DependsOn name="x"/>' + multi("x")), "twice for one"),
        (entry(multi("")), "has no name"),
        (entry(multi("x", state="maybe")), "neither enabled nor disabled"),
        (entry(multi("x") + multi("X")), "one name"),
        (entry("".join(multi(f"x{number}") for number in range(65))), "settings: Expected `array` of length <= 64"),
    ],
)
def test_a_fault_spoils_its_own_handler_alone(settings: str, problem: str) -> None:
    good = '<Plugin name="C.D" version="1" state="enabled"/>'
    found = config(f'<Plugin name="A.B" version="1.0" state="enabled"/>{good}', settings + entry(runtime(), "c.D", "1"))
    spoilt, sound = found.plugins
    assert problem in spoilt.problem
    assert (spoilt.name, spoilt.settings, spoilt.locations) == ("A.B", (), ())
    assert (sound.problem, len(sound.settings)) == ("", 1)


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        ({"name": ""}, "name"), ({"name": "../../etc"}, "name"), ({"name": "a/b"}, "name"), ({"name": "."}, "name"),
        ({"name": "x" * 5000}, "name"), ({"version": ""}, "version"), ({"version": "1.x"}, "version"),
        ({"version": "1" * 3000}, "version"), ({"state": ""}, "state"), ({"state": "maybe"}, "state"),
        ({"location": "https://" + "x" * 5000}, "locations[0]: Expected `str` of length <= 4096"),
    ],
)  # fmt: skip
def test_a_handler_that_nobody_could_run_says_so(attributes: dict[str, str], problem: str) -> None:
    found = handler(**attributes)
    assert found.problem.startswith(problem)
    assert attributes.get("name", "A.B")[:200] == found.name


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "unusable: document: is no JSON"),
        ("[]", "unusable: document: Expected `object`"),
        ('{"runtimeSettings": []}', "is no list of one"),
        ('{"runtimeSettings": [{"handlerSettings": {"protectedSettings": "x"}}]}', "nobody could open"),
        ('{"runtimeSettings": [{"handlerSettings": {"publicSettings":' + "[" * 90_000, "nested too deeply"),
        ("", ""),
        ('{"runtimeSettings": [{"handlerSettings": {"protectedSettings": ""}}]}', ""),
    ],
)
def test_settings_that_are_none_leave_an_extension_to_report_on(text: str, problem: str) -> None:
    found = handler(entry(f'<RuntimeSettings seqNo="4">{text}</RuntimeSettings>'))
    assert found.problem == ""
    (settings,) = found.settings
    assert (settings.sequence_number, settings.thumbprint) == (4, "")
    assert problem in settings.problem
    assert bool(settings.problem) == bool(problem)


def test_levels_that_are_no_numbers_are_0() -> None:
    for level in ("", "x", "9" * 5000, "99999999999"):
        assert handler(entry(f'<DependsOn dependencyLevel="{level}"/>{runtime()}')).settings[0].dependency_level == 0
    (found,) = vm_settings.parse(with_handler(settings=[{}], dependsOn=[]))[0].goal_state.plugins
    assert found.settings[0].dependency_level == 0


def test_a_handlers_name_that_is_none_is_its_own_problem() -> None:
    good = '<Plugin name="C.D" version="1" state="enabled"/>'
    for name in ("A-B.C", "A." + "b" * 127, "A..B", "../x"):
        spoilt, sound = config(f'<Plugin name="{name}" version="1.0" state="enabled"/>{good}').plugins
        assert "letters, digits, '_' and single dots are expected, at most 128 of them" in spoilt.problem
        assert sound.problem == ""


def test_an_extensions_name_that_is_none_is_its_own_problem() -> None:
    one, other = handler(entry(multi("../x") + multi("y"))).settings
    assert "name is none" in one.problem
    assert other.problem == ""


def test_numbers_and_flags_may_be_written_as_texts() -> None:
    one = {"extensionName": "x", "seqNo": "3"}
    found = vm_settings.parse(with_multi([one], [{"name": "x", "dependencyLevel": "2"}]))[0].goal_state.plugins[0]
    assert found.settings == (ExtensionSettings("x", 3, "enabled", 2, "", file=found.settings[0].file),)
    for said, on_hold in (("True", True), ("false", False), (None, False), (True, True)):
        assert vm_settings.parse(settings_having(onHold=said))[0].goal_state.on_hold == on_hold
    assert vm_settings.parse(settings_having(inSvdSeqNo="7"))[0].goal_state.in_svd_sequence_number == "7"


def test_keys_of_vm_settings_count_in_any_case() -> None:
    upper = vm_settings.parse(JSON.replace(b'"name"', b'"NAME"').replace(b'"settings"', b'"SettingS"'))[0]
    assert upper == vm_settings.parse(JSON)[0]


PROTECTED = {"protectedSettings": "MIIB"}


@pytest.mark.parametrize(
    ("document", "where"),
    [
        (b"", "document"),
        (b"[]", "document"),
        (b'{"a":' + b"[" * 100 + b"]" * 100 + b"}", "document"),
        (settings_having(hostGAPluginVersion="new"), "hostGAPluginVersion"),
        (settings_having(vmSettingsSchemaVersion=7), "vmsettingsschemaversion"),
        (settings_having(onHold=1), "onhold"),
        (settings_having(inSvdSeqNo=1.5), "insvdseqno"),
        (settings_having(statusUploadBlob={"statusBlobType": "BlockBlob"}), "statusuploadblob"),
        (settings_having(statusUploadBlob={"value": "u" * 5000}), "goal_state.status_blob.url"),
        (settings_having(requiredFeatures={"name": "x"}), "requiredfeatures"),
        (settings_having(requiredFeatures=[{}]), "requiredfeatures[0]"),
        (settings_having(gaFamilies=[{"version": "1"}]), "gafamilies[0]"),
        (settings_having(gaFamilies=[{"name": "x", "uris": [1]}]), "gafamilies[0].uris[0]"),
        (settings_having(gaFamilies=[{"name": "x"}] * 40), "goal_state.families"),
        (settings_having(extensionGoalStates=[{}]), "extensiongoalstates[0]"),
        (with_handler(state="Enabled"), "extensionGoalStates[0].state"),
        (with_handler(name=1), "extensiongoalstates[0].name"),
        (with_handler(settings=[{}, {}]), "extensionGoalStates[0].settings"),
        (with_handler(settings=[{}], settingsSeqNo=...), "extensionGoalStates[0].settingsSeqNo"),
        (with_handler(settings=[{}], settingsSeqNo=-1), "extensionGoalStates[0].settingsSeqNo"),
        (with_handler(settings=[{}], dependsOn=[{}, {}]), "extensionGoalStates[0].dependsOn"),
        (with_handler(settings=[{"publicSettings": "{"}]), "extensionGoalStates[0].settings[0].publicSettings"),
        (with_handler(settings=[{"publicSettings": {}}]), "extensiongoalstates[0].settings[0].publicsettings"),
        (with_handler(settings=[PROTECTED]), "extensionGoalStates[0].settings[0].protectedSettingsCertThumbprint"),
        (with_multi([{"seqNo": 1}]), "extensionGoalStates[0].settings[0].extensionName"),
        (
            with_multi([{"extensionName": "x", "extensionState": "off"}]),
            "extensionGoalStates[0].settings[0].extensionState",
        ),
        (with_multi([{"extensionName": "x"}]), "extensionGoalStates[0].settings[0].seqNo"),
        (with_multi([{"extensionName": "x", "seqNo": 1}], [{"name": "y"}]), "extensionGoalStates[0].dependsOn[0].name"),
        (settings_having(extensionGoalStates=[{"name": "a", "version": "1", "state": "enabled"}] * 10_000), "Plugins"),
        (settings_having(x="y" * MAX_EXTENSIONS_BYTES), "document"),
        (settings_having(extensionGoalStates=[
            {"name": f"a{number}", "version": "1", "state": "enabled", "location": "u" * 4000} for number in range(60)
        ]), "document"),
    ],
)  # fmt: skip
def test_vm_settings_that_are_none_are_refused_by_the_place(document: bytes, where: str) -> None:
    with pytest.raises(InputError) as refused:
        vm_settings.parse(document)
    assert refused.value.where == where
    assert "Tr0ub4dor" not in str(refused.value)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (b"<Other/>", "Extensions: is not the document's root element"),
        (b"<Extensions>", "line 1"),
        (b"<Extensions><RequiredFeatures>" + b"<RequiredFeature><Name>x</Name></RequiredFeature>" * 65
         + b"</RequiredFeatures></Extensions>", "required_features: can't be handed over: .*length <= 64"),
        (b"<Extensions><Plugins>" + b'<Plugin name="a"/>' * (MOST_PLUGINS + 1) + b"</Plugins></Extensions>",
         f"Plugins: 257 handlers, more than the {MOST_PLUGINS} allowed"),
        (b"<Extensions><Plugins>" + b'<Plugin name="a"/>' * 10_000 + b"</Plugins></Extensions>",
         "more than 8192 elements"),
        (b"<Extensions><StatusUploadBlob>" + b"u" * 5000 + b"</StatusUploadBlob></Extensions>", "status_blob.url"),
        (b"<Extensions>" + b"x" * MAX_EXTENSIONS_BYTES + b"</Extensions>", "bytes long, more than the"),
    ],
)  # fmt: skip
def test_an_extensions_config_that_is_none_is_refused(document: bytes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        of_xml(document)


def test_a_message_of_many_handlers_fits_or_is_refused() -> None:
    def full(count: int, length: int) -> ExtensionsGoalState:
        url = "https://one.blob.core.windows.net/" + "u" * length
        return config("".join(
            f'<Plugin name="A.B{number}" version="1.0" state="enabled" location="{url}" failoverlocation="{url}"/>'
            for number in range(count)
        ))  # fmt: skip

    assert len(full(MOST_PLUGINS, 150).plugins) == MOST_PLUGINS
    with pytest.raises(InputError, match=r"document: can't be handed over: .* is over the limit"):
        full(MOST_PLUGINS, 600)
