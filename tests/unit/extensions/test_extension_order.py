# SPDX-License-Identifier: Apache-2.0
"""Names and versions of handlers, whose turn it is, and what a command is told."""

import pytest

from ipc.messages import ExtensionSettings, Plugin
from supervisor.extension_records import End, Run, Undertaking
from supervisor.extensions import naming
from supervisor.extensions.environment import environment
from supervisor.extensions.next_step import Command
from supervisor.extensions.ordering import by_handler, stages

BASE = "/var/lib/waagent/Publisher.Type-2.0"


def plugin(name: str, *levels: int, state: str = "enabled", several: bool = False) -> Plugin:
    settings = tuple(
        ExtensionSettings(f"e{n}" if several else "", 1, "enabled", level, "") for n, level in enumerate(levels)
    )
    return Plugin(name, "1.0", state, False, (), several, settings)


def told(*plugins: Plugin) -> list[list[str]]:
    return [[f"{item.plugin.name}{item.extension} {item.kind}" for item in stage] for stage in stages(plugins)]


def test_folders_are_read_and_written() -> None:
    assert naming.folder_name("Publisher.Type", "1.2") == "Publisher.Type-1.2"
    assert naming.split_folder("Publisher.Type-1.2") == ("Publisher.Type", "1.2")
    for none in ("WALinuxAgent-2.15.0", "history", "A-b-1.0", "A-1.0.", "A-1.2.3.4.5", "-1.0", "A..B-1.0", "A-1.0\n"):
        assert naming.split_folder(none) is None, none
    for good in ("Publisher.Type", "Contoso.Disk_2.Linux", "A" * 128):
        assert not naming.problem_of_name(good), good
    for bad in ("", "a/b", "..", "a-b", "WALinuxAgent", "x" * 129, "a.", "a\n"):
        assert naming.problem_of_name(bad), bad
    assert not naming.problem_of_extension("run command_1.2-x")
    for bad in ("../x", ".x", "a/b", "a\x00", "x" * 200):
        assert naming.problem_of_extension(bad), bad


def test_versions_compare_as_numbers_and_zeros_at_the_end_count_nothing() -> None:
    assert naming.is_same("1.2.0.0", "1.2")
    assert naming.is_same("", "")
    assert not naming.is_same("1.2", "")
    assert not naming.is_same("1.2", "1.20")
    assert naming.newest(["1.9", "1.10", "1.2.3"]) == "1.10"
    assert naming.newest([]) == ""
    assert naming.is_complete("1.0.0.0")
    assert not naming.is_complete("1.0")


def test_a_file_is_called_by_its_extension_and_number() -> None:
    assert naming.settings_file("", None) == "0.settings"
    assert naming.settings_file("one", 4) == "one.4.settings"
    assert naming.status_file("", 3) == "3.status"


def test_what_goes_goes_first_and_the_rest_by_level() -> None:
    two, one, off = plugin("Two", 2), plugin("One", 1), plugin("Off", 0, state="disabled")
    gone = [plugin("GoneTwo", 2, state="uninstall"), plugin("GoneOne", 1, state="uninstall")]
    assert told(two, one, off, *gone) == [
        ["GoneTwo uninstall"],
        ["GoneOne uninstall"],
        ["Off disable"],
        ["One enable"],
        ["Two enable"],
    ]
    awaited = [item.plugin.name for stage in stages((two, one, off)) for item in stage if item.is_awaited]
    assert awaited == ["One"]


def test_those_of_one_level_are_side_by_side_but_for_one_handlers_own() -> None:
    several, alone, bare = plugin("Several", 0, 0, several=True), plugin("Alone", 0), plugin("Bare")
    stage = stages((several, alone, bare))
    assert len(stage) == 1
    assert not any(item.is_awaited for item in stage[0])
    assert [[item.plugin.name for item in turns] for turns in by_handler(stage[0])] == [
        ["Several", "Several"],
        ["Alone"],
        ["Bare"],
    ]
    assert [(item.extension, item.sequence_number) for item in stage[0]] == [("e0", 1), ("e1", 1), ("", 1), ("", None)]


def test_a_handler_with_several_extensions_goes_as_one_and_they_go_one_by_one() -> None:
    several = plugin("Several", 1, 2, several=True, state="uninstall")
    assert told(several) == [["Several uninstall"]]
    off = ExtensionSettings("off", 1, "disabled", 0, "")
    mixed = Plugin("Mixed", "1.0", "enabled", False, (), True, (*several.settings[:1], off))
    assert told(mixed) == [["Mixedoff disable-one"], ["Mixede0 enable"]]


def run(number: int, verb: str, version: str, exit_text: str, extension: str = "") -> Run:
    return Run(number, verb, verb, version, extension, "boot", ended=True, exit_text=exit_text)  # type: ignore[arg-type]


def under_way(*runs: Run, several: bool = False) -> Undertaking:
    disables = ("one", "two") if several else ("",)
    return Undertaking("g", "enable", "one" if several else "", 4, "1.0", "2.0", disables, several, "update", runs)


@pytest.mark.parametrize("several", [True, False])
def test_an_update_is_told_what_became_of_the_old_version(several: bool) -> None:
    update = Command("update", verb="update", version="2.0", extension="one" if several else "")
    plan = under_way(run(1, "disable", "1.0", "7", "one" if several else ""), several=several)
    given = dict(environment(update, plan, {}, BASE, "168.63.129.16"))
    if several:
        codes = '[{"extensionName":"one","exitCode":"7"},{"extensionName":"two","exitCode":"NOT_RUN"}]'
        assert given.pop("AZURE_GUEST_AGENT_DISABLE_CMD_EXIT_CODES_MULTIPLE_EXTENSIONS") == codes
        assert given.pop("ConfigExtensionName") == "one"
    else:
        assert given.pop("AZURE_GUEST_AGENT_DISABLE_CMD_EXIT_CODE") == "7"
    assert given == {
        "AZURE_GUEST_AGENT_EXTENSION_PATH": BASE,
        "AZURE_GUEST_AGENT_EXTENSION_VERSION": "2.0",
        "AZURE_GUEST_AGENT_WIRE_PROTOCOL_ADDRESS": "168.63.129.16",
        "AZURE_GUEST_AGENT_EXTENSION_SUPPORTED_FEATURES": '[{"Key":"ExtensionTelemetryPipeline","Value":"1.0"}]',
        "ConfigSequenceNumber": "4",
        "VERSION": "2.0",
        "AZURE_GUEST_AGENT_UPDATING_FROM_VERSION": "1.0",
    }


@pytest.mark.parametrize(("runs", "code"), [((), "NOT_RUN"), ((run(1, "uninstall", "1.0", "0"),), "0")])
def test_an_install_is_told_how_the_old_version_went(runs: tuple[Run, ...], code: str) -> None:
    for verb in ("install", "enable"):
        command = Command(verb, verb=verb, version="2.0", extension="")
        given = dict(environment(command, under_way(*runs), {}, BASE, "host"))
        assert given["AZURE_GUEST_AGENT_UNINSTALL_CMD_EXIT_CODE"] == code
        assert "VERSION" not in given


def test_the_old_version_is_disabled_with_the_number_that_it_knows() -> None:
    disable = Command("disable", verb="disable", version="1.0", extension="")
    ends = {"": End("g", "enable", 3, "1.0", "boot", 0, "")}
    assert dict(environment(disable, under_way(), ends, BASE, "host"))["ConfigSequenceNumber"] == "3"
    assert dict(environment(disable, under_way(), {}, BASE, "host"))["ConfigSequenceNumber"] == "4"
